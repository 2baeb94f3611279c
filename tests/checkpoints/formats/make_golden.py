"""Write the golden files of the current on-disk versions: python tests/checkpoints/formats/make_golden.py

Files of a released version must always load. So they are never written again; a new version adds files.
"""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from statezoo.checkpoints import save_file

FOLDER = Path(__file__).parent / "golden"
WRITTEN = ("version2.safetensors", "version3.h5", "version1.npz")
LARGE = ("version2-blocks.safetensors", "version3-blocks.h5", "version1-blocks.npz")
SHARDED = "version2-sharded.safetensors"
LARGE_BYTES = 140_000
# What the last writer of manifests of version 1 made of medium_state(), with MEDIUM_BYTES as max_shard_size.
MEDIUM = ("version1-medium.safetensors", "version2-medium.h5", "version1-sharded.safetensors")
MEDIUM_BYTES = 70_000
FORMAT = {"format": "the user's own"}
METADATA = {"epoch": "7", "note": "ünïcode\n", "tied.weight": "the user's own"}


def golden_state() -> dict[str, Any]:
    """Return a state with an example of everything that both formats support."""
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    base = np.arange(20, dtype=np.float64)
    turned = np.arange(6, dtype=np.int64).reshape(2, 3).T
    return {
        "fc1.weight": weight,
        "fc1.bias": np.array([-0.0, np.inf, 1e-45], np.float32),
        "transposed.weight": weight.T,
        "tied.weight": weight,
        "tied.again": weight,
        "slice": weight[1:, ::2],
        "_extra_state": {"step": 12345678901234567890, "rate": 0.1, "on": True},
        "overlapping.a": base[2:10],
        "overlapping.b": base[5:15],
        "turned": turned,
        "turned.row": turned[0],
        "half": np.array([1.5, -2], ml_dtypes.bfloat16),
        "eighth": np.array([1.5, -2], ml_dtypes.float8_e4m3fn),
        "complex": np.array([1 + 2j], np.complex64),
        "flags": np.array([True, False, True]),
        "scalar": np.array(7, np.uint16),
        "empty": np.zeros((0, 3), np.int8),
        "backwards": np.arange(5, dtype=np.int16)[::-1],
        "big": np.arange(3, dtype=">u4"),
        "": np.ones(1, np.float16),
        "..": np.full(1, 2, np.uint8),
        "a/b%\0é日本": np.full(1, 3, np.uint64),
        "__statezoo__": np.full(1, 4, np.int32),
        "broadcast": np.broadcast_to(np.float32(5), (2, 2)),
    }


def medium_state() -> dict[str, Any]:
    """Return a state with a tensor of more than one block, small enough to be stored several times."""
    medium = np.arange(MEDIUM_BYTES // 4, dtype=np.uint32) // 1000
    return {"medium": medium, "tied": medium, "reversed": medium[::-1], "format": np.ones(3, np.float32)}


def large_state() -> dict[str, Any]:
    """Return a state with tensors of several blocks, the last of which is short, and of exactly one."""
    large = np.arange(LARGE_BYTES // 4, dtype=np.uint32) // 1000
    return {
        "large": large,
        "tied": large,
        "reversed": large[::-1],
        "one block": np.ones(1 << 16, np.uint8),
        "little more": np.ones((1 << 16) + 1, np.uint8),
        "format": np.ones(3, np.float32),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in WRITTEN:
        save_file(golden_state(), FOLDER / name, METADATA)
    for name in LARGE:
        save_file(large_state(), FOLDER / name, FORMAT)
    save_file(large_state(), FOLDER / SHARDED, FORMAT, max_shard_size=LARGE_BYTES)
