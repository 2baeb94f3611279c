"""Modules around one function each."""
