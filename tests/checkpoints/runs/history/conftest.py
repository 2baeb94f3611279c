"""A history to damage. Modules of this folder import each other by bare names."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from history_states import LOWEST, state

from statezoo.checkpoints import History


@pytest.fixture(params=[".safetensors", ".h5", ".npz"])
def three(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    """A history of three steps with losses 3, 1 and 2."""
    formats: dict[str, Any] = {".safetensors": "safetensors", ".h5": "hdf5", ".npz": "npz"}
    history = History(tmp_path, format=formats[request.param], **LOWEST)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        history.save(step, state(step), {"loss": loss})
    return history
