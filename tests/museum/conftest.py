"""Makes the modules of this folder importable by their bare names, as they are when run as scripts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
