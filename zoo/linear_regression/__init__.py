"""Linear regression: one Linear layer."""

from . import recipe as recipe
from .model import LinearRegression as LinearRegression
