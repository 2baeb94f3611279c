"""A checkpoint in several files, in Hugging Face's layout: shards, and an index that lists the tensors of each.

    model-00001-of-00002.safetensors    shards, each a complete checkpoint with the metadata
    model-00002-of-00002.safetensors    {"index": "model.safetensors.index.json"}
    model.safetensors.index.json        {"metadata": {...}, "weight_map": {tensor: shard}}, sorted, indented by two

The tensors are stored in the order of the state, from shard to shard: a shard ends before the tensor that would exceed
the size limit. A tensor larger than the limit gets its own shard. While an earlier checkpoint with the same names is
still needed, the shards are named model-00000001-00001-of-00002.safetensors (see writer.py).

The metadata of the index is that of a safetensors file, without `format`: the user's; `alias: kept` for each tie; and
`statezoo`, the seal and the manifest of the whole state, with the digests of its tensors. Those of their blocks are in
the shards. In addition, total_size is the number of bytes of all tensors, unless the user has an entry of that name,
which is a string.

An index that another library wrote is read if its shards are .safetensors files in the same folder and hold exactly
the tensors that the index names. Entries of its metadata that are not strings are ignored.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ...errors import ArgumentError, CorruptError
from ...formats import DEFAULT, is_shardable
from ...formats.entries import MANIFEST, InvalidError, parsed, sealable, sealed, without_seal
from ...formats.recognise import cause_of
from ...state.manifest import Manifest, holds_manifest, specs_of
from ...state.sharing import Packed
from ...storage.source import FileSource, MemorySource

INDEX_SUFFIX = ".index.json"
# Enough for a million names. Once parsed, an index takes several times as much memory.
_MOST_INDEX_BYTES = 100_000_000
_MOST_NAME_LENGTH = 255  # of a file, in all file systems
_UNITS = {
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]I?B)\s*", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*)-[0-9]{5,}-of-([0-9]{5,})", re.DOTALL)


def most_bytes_of(size: Any) -> int:
    """Return max_shard_size in bytes. Raises ArgumentError unless it is a number of bytes or text such as "5GB"."""
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    most_bytes = int(float(found[1]) * _UNITS[found[2].upper()]) if found else size
    if type(most_bytes) is not int or most_bytes < 1:
        raise ArgumentError(
            f'max_shard_size is a number of bytes, at least 1, or text such as "5GB" or "500MiB", not {size!r:.60}. '
            "The units are KB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024)."
        )
    return most_bytes


def split(packed: Packed, most_bytes: int) -> list[Packed]:
    """Split the tensors of a state into states of up to `most_bytes` each, or of a single larger tensor."""
    shards: list[Packed] = []
    filled, arrays = most_bytes, packed.in_file
    tensors = specs_of(arrays)
    for name, array in arrays.items():
        size_bytes = tensors[name].size_bytes
        if not shards or filled + size_bytes > most_bytes:
            shards.append(Packed([], {}))
            filled = 0
        shards[-1].names.append(name)
        shards[-1].stored[name] = array
        filled += size_bytes
    return shards


def shard_names(path: str, count: int, mark: int = 0) -> list[str]:
    """Return the names of the shards of a checkpoint, in order. mark: a number in each name, or 0 for none."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    stem += f"-{mark:08x}" if mark else ""
    digits = max(5, len(str(count)))  # so that sorting them gives their order
    return [f"{stem}-{number:0{digits}}-of-{count:0{digits}}{suffix}" for number in range(1, count + 1)]


def shard_metadata(path: str) -> dict[str, str]:
    """Return the metadata of the shards of a checkpoint."""
    return {"index": os.path.basename(path) + INDEX_SUFFIX}


def is_shard_of(path: str, name: str) -> bool:
    """Return True if shard_names() may return this name for `path`."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    pattern = rf"{re.escape(stem)}(-[0-9a-f]{{8}})?-[0-9]{{5,}}-of-[0-9]{{5,}}{re.escape(suffix)}"
    return re.fullmatch(pattern, name) is not None


def is_numbered(name: str) -> bool:
    """Return True if a name is that of a shard of any checkpoint."""
    return is_shardable(name) and _NUMBERED.fullmatch(os.path.splitext(name)[0]) is not None


def set_of(name: str) -> tuple[str, str, int] | None:
    """Return the stem, suffix and count that the names of all shards of a checkpoint share. None for other names."""
    stem, suffix = os.path.splitext(name)
    found = _NUMBERED.fullmatch(stem) if is_shardable(name) else None
    return (found[1], suffix, int(found[2])) if found else None


def is_shard_name(name: str) -> bool:
    """Return True if an index may contain this name: on any system, a file in its folder, in a format with shards."""
    leads_out = set(name) & {"/", "\\", "\0"} or os.path.splitdrive(name)[0]
    return not leads_out and is_shardable(name)


class Index(NamedTuple):
    """The content of an index.

    weight_map: the shard of each tensor. metadata: the entries that are strings, without the manifest. manifest: its
    text, or None in a foreign index.
    """

    weight_map: dict[str, str]
    metadata: dict[str, str]
    manifest: str | None

    @property
    def shards(self) -> list[str]:
        """The names of the shards, in order."""
        return sorted(set(self.weight_map.values()))


def index_text(
    packed: Packed, metadata: Mapping[str, str], digests: Mapping[str, str], shards: Mapping[str, Packed]
) -> bytes:
    """Return the text of the index. shards: the part of the state in each. digests: those of all stored tensors."""
    tensors = specs_of(packed.in_file)
    manifest = Manifest.of(packed, metadata, {}).with_digests(tensors, digests)
    total = {"total_size": sum(tensor.size_bytes for tensor in tensors.values())}
    aliases = {} if packed.copies else packed.aliases
    ties = {name: alias.kept for name, alias in aliases.items() if alias.view is None}
    content = total | ties | dict(metadata) | {MANIFEST: sealable(manifest.text(metadata))}
    weight_map = {name: shard for shard, part in shards.items() for name in part.names}
    text = json.dumps({"metadata": content, "weight_map": weight_map}, indent=2, sort_keys=True)
    return sealed(text.encode() + b"\n")


def load_index(path: str) -> Index:
    """Read and parse an index. Raises what `read_index` and `parse_index` raise."""
    return parse_index(read_index(path), path)


def read_index(path: str) -> bytes:
    """Return the text of an index. Raises MissingFileError, ReadError, or CorruptError if it is far too large."""
    source = FileSource(path)
    try:
        if source.size_bytes > _MOST_INDEX_BYTES:
            _refuse(path, f"it has {source.size_bytes:,} bytes, and the most that is read is {_MOST_INDEX_BYTES:,}.")
        return source.read(0, source.size_bytes)
    except EOFError:
        return b""  # truncated meanwhile
    finally:
        source.close()


def parse_index(text: bytes, path: str) -> Index:
    """Parse and check the text of an index, which may be anything. Raises CorruptError naming `path`."""
    try:
        content = parsed(text.strip())
    except (InvalidError, RecursionError) as error:
        advice = "It may be damaged or cut off. Use another copy of it."
        if not text.lstrip().startswith(b"{"):
            advice = cause_of(MemorySource(memoryview(text), path), "index")
        _refuse(path, f"it is not the JSON it should be ({error.__cause__ or error}). {advice}")
    weight_map, metadata = content.get("weight_map"), content.get("metadata")
    if not isinstance(weight_map, dict) or not isinstance(metadata, dict | None):
        _refuse(
            path, "its weight_map, from tensors to the files that hold them, or its metadata is missing or invalid."
        )
    _refuse_other_names(weight_map, path)
    strings = {key: value for key, value in (metadata or {}).items() if isinstance(value, str)}
    manifest = strings.pop(MANIFEST, None)
    if manifest is not None:
        return Index(weight_map, strings, without_seal(manifest))
    if holds_manifest(text):
        _refuse(path, f"the metadata key {MANIFEST!r} was changed. Use another copy of it.")
    return Index(weight_map, strings, None)


def _refuse_other_names(weight_map: Mapping[str, Any], path: str) -> None:
    """Raise CorruptError naming the first tensor whose shard cannot be the name of a file in the folder."""
    valid: set[str] = set()
    for name, shard in weight_map.items():
        named = isinstance(shard, str) and len(shard) <= _MOST_NAME_LENGTH
        if not named or (shard not in valid and not is_shard_name(shard)):
            _refuse(
                path,
                f"it says that tensor {name!r:.200} is in {shard!r:.200}, which is not the name of a {DEFAULT.suffix} "
                "file next to it. Do not use it unless you know how that happened.",
            )
        valid.add(shard)


def _refuse(path: str, reason: str) -> NoReturn:
    raise CorruptError(f"{path} is not a valid index of a sharded checkpoint: {reason}")
