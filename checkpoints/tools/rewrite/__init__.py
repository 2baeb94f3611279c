"""Writing a checkpoint made from others: converting, averaging and repairing."""
