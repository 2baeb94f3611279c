"""How a run becomes an entry, and how an entry is checked."""
