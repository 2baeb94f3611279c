"""Keras runs on PyTorch here. Modules of this folder import each other by bare names."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("KERAS_BACKEND", "torch")
