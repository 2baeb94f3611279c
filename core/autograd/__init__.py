"""Tensors that know how they were computed, and the backward pass."""
