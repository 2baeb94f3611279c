"""Modules of one campaign import each other by their bare names, as they do when run as scripts."""

import sys
from pathlib import Path

sys.path[:0] = [str(folder) for folder in [*Path(__file__).parent.iterdir(), Path(__file__).parent] if folder.is_dir()]
