"""Writing a checkpoint made from others: converting, editing, merging and repairing."""
