"""How a run becomes an entry, and stays one."""
