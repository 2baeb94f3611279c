"""Changes that are made whole or not at all, whatever exception comes in between."""
