"""Linear regression: one Linear layer."""

from .model import LinearRegression as LinearRegression
