"""Helpers for modules, as in torch.nn.utils."""

from . import rnn

__all__ = ["rnn"]
