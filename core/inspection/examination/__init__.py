"""What the checks examine: one training step, observed and undone."""
