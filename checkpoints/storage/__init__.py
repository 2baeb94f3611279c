"""Bytes to a place and back, whole."""
