"""What the checks look at: one training step, observed and undone."""
