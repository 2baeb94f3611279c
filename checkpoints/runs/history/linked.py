"""Checkpoints that share shards: tensors unchanged since an earlier checkpoint are linked, not written again.

The state is saved in shards with an index, in Hugging Face's layout (see files/sharding/index.py). If all tensors in a
shard of the earlier checkpoint have the same digests, that shard becomes a shard of the new checkpoint by a hard link:
one file with two names, which exists until both are removed. The other tensors are written. Unchanged ones among them
get shards of their own, so that the next save can link to these. Frozen tensors are thus written twice, and never
again.

    step 100   embedding, backbone, head in one shard      (written)
    step 200   embedding, backbone | head                  (written, now apart)
    step 300   embedding, backbone | head                  (linked | written)

A shard is linked to only if it still holds what was written. Its bytes are compared with their digests when this
process first links to it, whenever the file has changed, and again every `_SAVES` saves or `_SECONDS` seconds. If they
differ, the tensors are written.

Where the file system has no hard links, everything is written. Damage to a shared shard damages every checkpoint that
shares it. So does a program that writes into the shard in place, which statezoo never does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from itertools import groupby
from typing import Any, NamedTuple

from ...errors import CheckpointError
from ...files import open_header, packed_of, write_shard
from ...files.sharding import index as shards
from ...files.sharding import writer as shard_set
from ...reading.lazy import LazyTensor
from ...reading.reader import Reader
from ...state.deferred import Deferred
from ...state.manifest import TensorSpec, specs_of
from ...state.sharing import Packed
from ...state.validation import checked_metadata
from ...storage import streams
from ...storage.identity import Identity, identity_of

# A shard costs a block or two of its own, and an entry in the index: smaller runs of tensors are written again.
_LEAST_BYTES = 1 << 16
_SAVES = 8
_SECONDS = 600.0


class Checks:
    """The shards that were compared with their digests, and when. One for all saves of a run."""

    def __init__(self) -> None:
        self._saves = 0
        self._passed: dict[Identity, tuple[int, float]] = {}

    def next_save(self) -> None:
        """Count a save, and forget the checks that are too old."""
        self._saves += 1
        now = time.monotonic()
        for identity, (save, at_s) in self._passed.copy().items():
            if self._saves - save >= _SAVES or now - at_s >= _SECONDS:
                self._passed.pop(identity, None)

    def pass_if(self, path: str, contents: Mapping[str, _Content]) -> bool:
        """Return True if the shard at `path` holds these tensors, in order. Read it only if a check is due."""
        identity = identity_of(path)
        if identity is None:
            return False
        if identity not in self._passed:
            if not _holds(path, contents):
                return False
            self._passed[identity] = self._saves, time.monotonic()
        return True


def save_linked(
    state: Mapping[str, Any],
    path: str,
    metadata: Mapping[str, str] | None = None,
    *,
    since: str | None = None,
    checks: Checks | None = None,
    durable: bool = True,
) -> None:
    """Write a state in shards. Shards unchanged since an earlier checkpoint become links to the shards of that one.

    path: ends in .safetensors; `load_file` takes it. since: the path of the earlier checkpoint, or None. It is ignored
    if it is damaged or gone. checks: those of the saves before. For the other arguments and the errors, see
    `save_file`.
    """
    checks = checks or Checks()
    checks.next_save()
    strings = checked_metadata(metadata or {})
    packed = packed_of(state)
    shard_set.refuse_impossible(path)
    contents = _contents_of(packed)
    pieces = _pieces(packed, contents, _shards_of(since))
    digests = {name: content.digest for name, content in contents.items()}
    with shard_set.replace_shards(path, len(pieces), durable) as new:
        for piece, target in zip(pieces, new.paths, strict=True):
            if piece.earlier is not None and new.link(piece.earlier, target):
                if checks.pass_if(target, {name: contents[name] for name in piece.part.names}):
                    continue
                new.unlink(target)
            digests |= write_shard(piece.part, path, new.file(target))
        parts = [piece.part for piece in pieces]
        new.index = shards.index_text(packed, strings, digests, dict(zip(new.names, parts, strict=True)))


class _Content(NamedTuple):
    """The parts of a tensor that must be equal for two to be the same. A digest does not cover dtype and shape.

    digest: "" if it is not known before the tensor is written.
    """

    tensor: TensorSpec
    digest: str


class _Piece(NamedTuple):
    """The tensors of a new shard, and the path of an earlier shard with exactly these tensors, or None."""

    part: Packed
    earlier: str | None


# The tensors in each shard of an earlier checkpoint, in order.
_Shards = dict[str, dict[str, _Content]]


def _contents_of(packed: Packed) -> dict[str, _Content]:
    return {name: _Content(tensor, _digest_of(packed.stored[name])) for name, tensor in specs_of(packed.stored).items()}


def _digest_of(array: Any) -> str:
    if isinstance(array, LazyTensor):
        return array.digest or ""
    return "" if isinstance(array, Deferred) else streams.digest_of(array)  # a Deferred is computed once, when written


def _holds(path: str, contents: Mapping[str, _Content]) -> bool:
    """Return True if a shard can be read and holds these tensors, in order, bit by bit."""
    try:
        with closing(Reader(open_header(path), verify=False)) as reader:
            tensors = reader.header.tensors
            if list(tensors.items()) != [(name, content.tensor) for name, content in contents.items()]:
                return False
            return all(reader.digest_of(name) == content.digest for name, content in contents.items())
    except CheckpointError:
        return False


def _shards_of(path: str | None) -> _Shards:
    if path is None:
        return {}
    try:
        with open_header(path) as header:
            found = {part.source.name: part.opened.tensors for part in header.parts}
            digests = header.digests
    except CheckpointError:
        return {}
    return {
        shard: {name: _Content(tensor, digests.get(name, "unknown")) for name, tensor in tensors.items()}
        for shard, tensors in found.items()
    }


def _pieces(packed: Packed, contents: Mapping[str, _Content], earlier: _Shards) -> list[_Piece]:
    """Split the stored tensors, in order, into the new shards.

    A shard ends where an unchanged earlier shard begins or ends, and where changed and unchanged tensors meet.
    """
    shard_of: dict[str, str | None] = {}  # unchanged tensor -> its earlier shard, or None if others in it changed
    for shard, found in earlier.items():
        unchanged = [name for name, content in found.items() if contents.get(name) == content]
        shard_of |= dict.fromkeys(unchanged, shard if len(unchanged) == len(found) else None)
    for names in _runs(packed, shard_of):
        size_bytes = sum(contents[name].tensor.size_bytes for name in names)
        if shard_of.get(names[0], "") is None and size_bytes < _LEAST_BYTES:
            for name in names:
                del shard_of[name]
    pieces = []
    for names in _runs(packed, shard_of):
        shard = shard_of.get(names[0])
        same_order = shard is not None and list(earlier[shard]) == names
        part = Packed(names, {name: packed.stored[name] for name in names})
        pieces.append(_Piece(part, shard if same_order else None))
    return pieces


def _runs(packed: Packed, shard_of: Mapping[str, str | None]) -> list[list[str]]:
    """Return the names of the stored tensors, in order, in runs that come from one earlier shard or from none."""
    return [list(names) for _, names in groupby(packed.stored, key=lambda name: shard_of.get(name, ""))]
