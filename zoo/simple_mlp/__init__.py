"""SimpleMLP: three linear layers with ReLU between them, optionally with batch norm and dropout."""

from . import recipe as recipe
from .model import SimpleMLP as SimpleMLP
