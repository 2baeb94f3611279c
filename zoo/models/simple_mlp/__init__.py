"""SimpleMLP: three linear layers with ReLU between them, optionally with batch norm and dropout."""

from .model import SimpleMLP as SimpleMLP
