"""One transformer block: it sorts six digits, writing one after the other, or adds two numbers modulo 97."""

from .model import AddingTransformer as AddingTransformer
from .model import SortingTransformer as SortingTransformer
