"""Writing a checkpoint from others: converted, averaged or repaired."""
