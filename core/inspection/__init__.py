"""Tools that look at models and change nothing."""
