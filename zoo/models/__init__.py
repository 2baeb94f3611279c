"""One folder an architecture: its model, its recipe and its published entries."""
