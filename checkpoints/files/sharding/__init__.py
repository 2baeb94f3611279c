"""Checkpoints split across several files."""
