"""The import forms that users of torch write."""

import subprocess
import sys


def test_functional_can_be_imported_as_a_module_of_core() -> None:
    program = """
import statezoo.core.functional as F
from statezoo.core.functional import mse_loss
from statezoo import core

assert F is core.functional is core.nn.functional
assert F.mse_loss is mse_loss
"""
    subprocess.run([sys.executable, "-c", program], check=True)
