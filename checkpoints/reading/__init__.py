"""A checkpoint that is open."""
