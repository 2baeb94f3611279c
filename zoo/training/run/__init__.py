"""One run: its loop, its folder and its environment."""
