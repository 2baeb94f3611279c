"""`python -m statezoo`: the command line."""

import sys

from .scripts.command import main

sys.exit(main())
