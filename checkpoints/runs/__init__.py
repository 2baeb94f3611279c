"""The state of a training, and the checkpoints of a run."""
