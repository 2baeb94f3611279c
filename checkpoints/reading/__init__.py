"""Reading an open checkpoint."""
