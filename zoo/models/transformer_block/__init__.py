"""SortingTransformer: one transformer block that sorts six digits, writing one after the other."""

from .model import SortingTransformer as SortingTransformer
