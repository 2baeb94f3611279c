"""Tools for checkpoint files: inspect, verify, compare, convert, edit, merge and repair them.

Every tool reads through an open checkpoint, a tensor or a block at a time, so a file may be larger than memory.
`statezoo.checkpoints` imports each tool when it is first used. To read the code, start with inspection, then
verification, compare, rewrite and fingerprints.
"""
