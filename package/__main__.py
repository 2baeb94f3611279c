"""`python -m statezoo`: the command line."""

import sys

from statezoo.scripts.command import main

sys.exit(main())
