"""One state in several files."""
