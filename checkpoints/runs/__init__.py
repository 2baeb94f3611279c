"""Training state, and the checkpoints of a training run."""
