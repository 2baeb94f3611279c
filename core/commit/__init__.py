"""Changes that happen completely or not at all, whatever exception is raised."""
