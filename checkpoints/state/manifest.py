"""The manifest: what our files hold beyond names and arrays. It is one line of text, made to be parsed in one pass.

    version=2 checksum=C fingerprint=F metadata=M storages=S digests=D blocks=B {...}

    version      a reader accepts every version up to its own
    checksum     xxh3-128 of the text without this number; every later version keeps these two fields as they are
    fingerprint  xxh3-128 of names, dtypes, shapes, digests, aliases, extra, layouts and storages: equal content has
                 equal fingerprints, whatever the format and the metadata
    metadata     xxh3-128 of the user's metadata, as JSON without spaces, with sorted keys
    storages     how many of the stored tensors, counted from the last, are not part of the state
    digests      32 hexadecimal digits for each stored tensor, in their order (see digests.py)
    blocks       base64 of the digests of the blocks of the stored tensors that have more than one, in their order.
                 It may end after any tensor: the others are checked only as a whole. An index of shards has none
    {...}        JSON without spaces, with sorted keys, of what is not empty among

                 aliases    [[position, name, kept], ...], for views followed by dtype, shape, offset, strides
                            (sharing.py); position is the index among all names of the state, so that their order is
                            kept
                 extra      [[position, name, value], ...] of the `_extra_state` values, any JSON
                 layouts    {kept: [axis, ...]}: the axis order in memory of a kept tensor that is not C-contiguous
                 expanded   [[storage, length, digest], ...], only in a file that holds a copy of each alias after the
                            kept tensors (expansion.py): the storages, which are then not in the file. The digests and
                            the blocks of the copies follow those of the kept tensors. May be empty
                 own        the keys of the user's metadata that a format may write on its own: names of aliases, and
                            "format" (see formats/safetensors/__init__.py)

A format may show by a digest of its own that all of its header is what was written. Then the checksum, the fingerprint
and the digest of the metadata need not be computed. If they have to be, another program may have rewritten the header.
"""

from __future__ import annotations

import json
import math
from binascii import b2a_base64
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import accumulate
from json.encoder import encode_basestring_ascii as json_text
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from xxhash import xxh3_128_hexdigest

from . import dtypes
from .deferred import Deferred
from .digests import BYTES, LEAST_BLOCK_BYTES, block_bytes_of, count_of, digest_of_blocks
from .sharing import Alias, Packed

VERSION = 2
DIGEST_LENGTH = 2 * BYTES
# 22 MB of text. The blocks of tensors beyond that are left out.
_MOST_BLOCKS = 1 << 20
# How many sizes and texts of shapes are kept: a save needs each of them several times.
_MOST_SPECS = 1 << 13
# A key that formats add to the metadata.
FORMAT = "format"


class TensorSpec(NamedTuple):
    """The dtype (as in dtypes.py) and shape of a stored tensor, as in a header."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The number of bytes of the tensor."""
        return _size_of(self)

    @property
    def shape_text(self) -> str:
        """The shape as JSON."""
        return _text_of(self.shape)


@lru_cache(_MOST_SPECS)
def _size_of(tensor: TensorSpec) -> int:
    return math.prod(tensor.shape, start=dtypes.ITEM_BYTES[tensor.dtype])


@lru_cache(_MOST_SPECS)
def _text_of(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def specs_of(arrays: Mapping[str, np.ndarray | Deferred]) -> dict[str, TensorSpec]:
    """Return the dtype and shape of each array. Raises UnsupportedTypeError naming one that no file can hold."""
    return {name: TensorSpec(dtypes.name_of(array.dtype, name), array.shape) for name, array in arrays.items()}


class Manifest(NamedTuple):
    """The manifest of a file. names: all names of the state, in order. The other fields: see the module.

    digests: those of the stored tensors, also of storages that are not in the file. blocks: as text, which is decoded
    when a part of a tensor is read (see reading/checking.py). copies: in an expanded file, the digest of the copy of
    each alias. lengths: the storages that are not in the file, each with the number of uint64 in it.
    """

    names: tuple[str, ...]
    aliases: Mapping[str, Alias]
    layouts: Mapping[str, tuple[int, ...]]
    storages: int
    extra: Mapping[str, Any]
    own: tuple[str, ...]
    digests: tuple[str, ...]
    blocks: str
    fingerprint: str
    version: int = VERSION
    copies: Mapping[str, str] = MappingProxyType({})
    lengths: Mapping[str, int] = MappingProxyType({})

    @classmethod
    def of(cls, packed: Packed, metadata: Mapping[str, str], tensors: Mapping[str, TensorSpec]) -> Manifest:
        """Return the manifest of a state to be written to a file, with blanks for the digests and the fingerprint.

        tensors: the tensors in the file.
        """
        own = tuple(sorted(metadata.keys() & {FORMAT, *packed.aliases}))
        blank = "0" * DIGEST_LENGTH
        digests = (blank,) * len(packed.stored)
        blocks = _base64(bytes(BYTES * sum(_listed(tensors).values())))
        return cls(
            names=tuple(packed.names),
            aliases=packed.aliases,
            layouts=packed.layouts,
            storages=len(packed.storages),
            extra=packed.extra,
            own=own,
            digests=digests,
            blocks=blocks,
            fingerprint=blank,
            copies=dict.fromkeys(packed.copies, blank),
            lengths={name: packed.stored[name].shape[0] for name in packed.storages} if packed.copies else {},
        )

    def stored(self, tensors: Mapping[str, TensorSpec]) -> Mapping[str, TensorSpec]:
        """Return the stored tensors, in order. tensors: those in the file."""
        return stored_of(tensors, self.copies, self.lengths)

    def with_blocks(self, tensors: Mapping[str, TensorSpec], blocks: Mapping[str, bytes]) -> Manifest:
        """Return the manifest with the digests that follow from those of all blocks.

        tensors: those in the file. blocks: by the name of the tensor, also of storages that are not in the file.
        """
        names = _listed(tensors) if self.blocks else ()
        filled = self._replace(blocks=_base64(b"".join([blocks[name] for name in names]))) if names else self
        return filled.with_digests(tensors, dict(zip(blocks, map(digest_of_blocks, blocks.values()), strict=True)))

    def with_digests(self, tensors: Mapping[str, TensorSpec], digests: Mapping[str, str]) -> Manifest:
        """Return the manifest with digests, and the fingerprint that follows from them.

        tensors: those in the file. digests: by the name of the tensor, also of storages that are not in the file.
        """
        stored = self.stored(tensors)
        filled = self._replace(
            digests=tuple([digests[name] for name in stored]), copies={name: digests[name] for name in self.copies}
        )
        return filled._replace(fingerprint=filled.fingerprint_of(stored))

    def digests_in_file(self, tensors: Mapping[str, TensorSpec]) -> dict[str, str]:
        """Return the digest of each tensor in a file, by name."""
        return dict(zip(tensors, self._in_file(), strict=True))

    def _in_file(self) -> tuple[str, ...]:
        return *self.digests[: len(self.digests) - len(self.lengths)], *self.copies.values()

    def fingerprint_of(self, tensors: Mapping[str, TensorSpec]) -> str:
        """Return the fingerprint of the stored tensors and this manifest."""
        # The JSON of [[name, dtype, shape, digest], ...], for which the encoder takes several times as long.
        kinds = {tensor: f'"{tensor.dtype}",{tensor.shape_text}' for tensor in set(tensors.values())}
        stored = [
            f'[{json_text(name)},{kinds[tensor]},"{digest}"]'
            for (name, tensor), digest in zip(tensors.items(), self.digests, strict=True)
        ]
        aliases, extra = self._placed()
        return hash_of(
            f'{{"aliases":{json_of(aliases)},"extra":{json_of(extra)},"layouts":{json_of(self.layouts)},'
            f'"storages":{self.storages},"stored":[{",".join(stored)}]}}'
        )

    def text(self, metadata: Mapping[str, str]) -> str:
        """Return the text. Its length does not depend on the values of the digests and the fingerprint."""
        aliases, extra = self._placed()
        rest = {"aliases": aliases, "extra": extra, "layouts": self.layouts, "own": self.own}
        rest = {key: value for key, value in rest.items() if value}
        if self.copies:
            apart = self.digests[len(self.digests) - len(self.lengths) :]
            rest["expanded"] = [[*item, digest] for item, digest in zip(self.lengths.items(), apart, strict=True)]
        before, after = (
            f"version={VERSION} ",
            f"fingerprint={self.fingerprint} metadata={hash_of(json_of(metadata))} "
            f"storages={self.storages - len(self.lengths)} digests={''.join(self._in_file())} blocks={self.blocks} "
            f"{json_of(rest)}",
        )
        return f"{before}checksum={hash_of(before + after)} {after}"

    def block_bytes_of(self, size_bytes: int) -> int:
        """Return the size of the blocks that the digest of a tensor is made from."""
        return block_bytes_of(size_bytes) if self.version > 1 else max(1, size_bytes)

    def _placed(self) -> tuple[list[Any], list[Any]]:
        """Return aliases and extra, with the positions of their names."""
        if not self.aliases and not self.extra:
            return [], []
        position = {name: number for number, name in enumerate(self.names)}
        aliases = [[position[name], name, kept, *(view or ())] for name, (kept, view) in self.aliases.items()]
        return aliases, [[position[name], name, value] for name, value in self.extra.items()]


def stored_of(
    tensors: Mapping[str, TensorSpec], copies: Collection[str], lengths: Mapping[str, int]
) -> Mapping[str, TensorSpec]:
    """Return the stored tensors, in order: those in a file without the copies, and the storages that are not in it.

    lengths: those of the storages, in uint64.
    """
    if not copies:
        return tensors
    storages = {name: TensorSpec("U64", (length,)) for name, length in lengths.items()}
    return {name: tensor for name, tensor in tensors.items() if name not in copies} | storages


def counts_of(tensors: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Return the number of blocks of each tensor that has several."""
    kinds = set(tensors.values())
    counts = {tensor: count_of(size) for tensor in kinds if (size := tensor.size_bytes) > LEAST_BLOCK_BYTES}
    return {name: counts[tensor] for name, tensor in tensors.items() if tensor in counts} if counts else {}


def _listed(tensors: Mapping[str, TensorSpec]) -> dict[str, int]:
    """Return the number of blocks of each tensor whose blocks a new file lists."""
    counts = counts_of(tensors)
    ends = accumulate(counts.values())
    return counts and {
        name: count for (name, count), end in zip(counts.items(), ends, strict=True) if end <= _MOST_BLOCKS
    }


# Words of a manifest, as they are in a header.
_WORDS = (" checksum=", " fingerprint=", " storages=", " digests=", " blocks=", r" {\"aliases\":", r" {\"extra\":")
_WORDS_1 = tuple(rf"\"{key}\":" for key in ("aliases", "checksum", "digests", "fingerprint", "layouts", "storages"))
_SIGNS = [[word.encode() for word in words] for words in (_WORDS, _WORDS_1)]


def holds_manifest(header: bytes) -> bool:
    """Return True if there is a manifest in a header, even under another key or as part of another value."""
    if not any(word in header for word in (b"fingerprint", b"digests", b" blocks=")):  # as in nearly all foreign files
        return False
    return any(sum(word in header for word in words) > 1 for words in _SIGNS)


def _base64(content: bytes) -> str:
    return b2a_base64(content, newline=False).decode()


def hash_of(text: str) -> str:
    """Return the xxh3-128 of text as 32 hexadecimal digits."""
    return xxh3_128_hexdigest(text.encode())


def json_of(content: Any) -> str:
    """Return JSON without spaces, with sorted keys."""
    # Usually the content is empty, and an encoder would cost more than all the rest.
    if not content:
        return "[]" if isinstance(content, list | tuple) else "{}"
    return _ENCODER.encode(content)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
