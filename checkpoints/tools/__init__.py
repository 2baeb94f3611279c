"""Tools on checkpoint files: inspect, verify, compare, convert, average and repair them.

Every tool reads through an open checkpoint, a tensor or a block at a time, so a file may be larger than memory.
`statezoo.checkpoints` imports each tool when it is first used. Read in this order: inspection, verification, compare,
rewrite, fingerprints.
"""
