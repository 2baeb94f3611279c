"""SortingTransformer: one transformer block that writes six digits in order, one after the other."""

from .model import SortingTransformer as SortingTransformer
