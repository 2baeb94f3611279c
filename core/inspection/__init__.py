"""Tools that inspect models without changing them."""
