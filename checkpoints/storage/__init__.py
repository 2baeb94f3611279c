"""Reading and writing bytes: durable files, locks, sources and streams."""
