"""What is done with files rather than with states: look into them, check, compare, convert and mend them.

Everything here reads through an open checkpoint, tensor by tensor, so that a file may be larger than memory. The
functions are offered by `statezoo.checkpoints`, which imports them when they are used. Read in this order: inspection,
verification, comparison (with difference, its result, and deviation), conversion (with npz and copying), repairing
(with salvage), fingerprints.
"""
