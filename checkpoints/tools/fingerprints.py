"""The fingerprint of a state: of a file, or made from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xxhash import xxh3_128

from ..files import open_checkpoint, packed_of
from ..reading.lazy import Checkpoint
from ..reading.progress import Progress, silent
from ..state import dtypes
from ..state.manifest import Manifest, Tensor
from ..storage import streams
from .blocks import blocks_of


def fingerprint(file_or_state: Any, *, progress: Progress | None = None) -> str:
    """Return the hash of a state, 32 hexadecimal digits, equal for the same state in any format, sharded or in memory.

    file_or_state: a file as for load_file, an open Checkpoint, or arrays by name as for save_file. A file of ours
    has it in its header, where it is read, and believed; verify() compares it with the bytes. For a file of another
    writer, and for arrays, it is made from all bytes. progress: called with how many bytes were read since it was
    called last. Metadata are no part of it. Raises StateError for a state that cannot be kept, CorruptError or another
    CheckpointError.
    """
    if not isinstance(file_or_state, Mapping):
        with open_checkpoint(file_or_state) as checkpoint:
            return fingerprint(checkpoint, progress=progress)
    if isinstance(file_or_state, Checkpoint) and file_or_state.fingerprint is not None:
        return file_or_state.fingerprint
    packed = packed_of(file_or_state)
    tensors = {name: Tensor(dtypes.name_of(a.dtype, name), a.shape) for name, a in packed.stored.items()}
    digests = [_digest_of(array, progress or silent) for array in packed.stored.values()]
    return Manifest.of(packed, {}).with_digests(tensors, digests).fingerprint


def _digest_of(array: Any, progress: Progress) -> str:
    digest = xxh3_128()
    for block in blocks_of(array):
        digest.update(streams.memory_of(block))
        progress(block.nbytes)
    return digest.hexdigest()
