"""The fingerprint of a state, read from a file or computed from arrays."""

from __future__ import annotations

from typing import Any

from ..files import open_checkpoint, packed_of
from ..models import find_adapter, state_of
from ..reading.lazy import Checkpoint
from ..reading.progress import Progress, silent
from ..state.digests import Hasher, block_bytes_of
from ..state.manifest import Manifest, specs_of
from ..storage import streams
from .blocks import blocks_of


def fingerprint(file_or_state: Any, *, progress: Progress | None = None) -> str:
    """Return the hash of a state as 32 hexadecimal digits. Equal states have equal hashes in any format and in memory.

    file_or_state: a file as for load_file, an open Checkpoint, a model, or arrays by name as for save_file. progress:
    called with the number of bytes read since the last call.
    Our files have the fingerprint in their header, where it is trusted; verify() compares it with the bytes. For
    foreign files, arrays, and files of version 1 with tensors of more than 64 KiB it is computed from all bytes.
    Metadata does not count.
    Raises StateError for a state that cannot be saved, CorruptError or another CheckpointError.
    """
    if not isinstance(file_or_state, Checkpoint) and find_adapter(file_or_state) is None:
        with open_checkpoint(file_or_state) as checkpoint:
            return fingerprint(checkpoint, progress=progress)
    state = state_of(file_or_state)
    is_open = isinstance(state, Checkpoint)
    if is_open and (stored := state.fingerprint) is not None and not state.has_old_digests:
        return stored
    packed = packed_of(state)
    tensors, progress = specs_of(packed.stored), progress or silent
    digests = {name: _digest_of(array, tensors[name].size_bytes, progress) for name, array in packed.stored.items()}
    return Manifest.of(packed, {}, {}).with_digests(tensors, digests).fingerprint


def _digest_of(array: Any, size_bytes: int, progress: Progress) -> str:
    digest = Hasher(block_bytes_of(size_bytes))
    for block in blocks_of(array):
        digest.update(streams.memory_of(block))
        progress(block.nbytes)
    return digest.hexdigest()
