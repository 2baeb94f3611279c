"""The manifest: what our files hold beyond names and arrays, as JSON text without spaces, with sorted keys.

    aliases      [[position, name, kept], ...], for views followed by dtype, shape, offset, strides (sharing.py);
                 position is the index among all names of the state, so that their order is kept
    checksum     xxh3-128 of the manifest without this entry and of the user's metadata
    digests      32 hexadecimal digits for each stored tensor, in their order, in one string: xxh3-128 of its bytes
    extra        [[position, name, value], ...] of the `_extra_state` values, any JSON
    fingerprint  xxh3-128 of names, dtypes, shapes, digests, aliases, extra, layouts and storages: equal content has
                 equal fingerprints, whatever the format and the metadata
    layouts      {kept: [axis, ...]}: the axis order in memory of a kept tensor that is not C-contiguous
    own          the keys of the user's metadata that are also names of aliases, see formats/safetensors_.py
    storages     how many of the stored tensors, counted from the last, are not part of the state
    version      1

A reader accepts every version up to its own. All entries are always present.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii as json_text
from typing import Any, NamedTuple, NoReturn

from xxhash import xxh3_128_hexdigest

from ..errors import CorruptError, VersionError
from . import dtypes
from .sharing import Alias, Packed, View, check_view

VERSION = 1
DIGEST_LENGTH = 32
_DIGESTS = re.compile(f"([0-9a-f]{{{DIGEST_LENGTH}}})*")


class TensorSpec(NamedTuple):
    """The dtype (as in dtypes.py) and shape of a stored tensor, as in a header."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The number of bytes of the tensor."""
        return math.prod(self.shape, start=dtypes.ITEM_BYTES[self.dtype])

    @property
    def shape_text(self) -> str:
        """The shape as JSON."""
        return f"[{','.join(map(str, self.shape))}]"


class Manifest(NamedTuple):
    """The manifest of a file. names: all names of the state, in order. The other fields: see the module."""

    names: tuple[str, ...]
    aliases: Mapping[str, Alias]
    layouts: Mapping[str, tuple[int, ...]]
    storages: int
    extra: Mapping[str, Any]
    own: tuple[str, ...]
    digests: tuple[str, ...]
    fingerprint: str

    @classmethod
    def of(cls, packed: Packed, metadata: Mapping[str, str]) -> Manifest:
        """Return the manifest of a state to be written, with blanks for the digests and the fingerprint."""
        own = tuple(sorted(metadata.keys() & packed.aliases.keys()))
        blank = "0" * DIGEST_LENGTH
        digests = (blank,) * len(packed.stored)
        names = tuple(packed.names)
        return cls(names, packed.aliases, packed.layouts, len(packed.storages), packed.extra, own, digests, blank)

    def with_digests(self, tensors: Mapping[str, TensorSpec], digests: Iterable[str]) -> Manifest:
        """Return the manifest with the digests of the stored tensors, in order, and the resulting fingerprint."""
        filled = self._replace(digests=tuple(digests))
        return filled._replace(fingerprint=filled.fingerprint_of(tensors))

    def fingerprint_of(self, tensors: Mapping[str, TensorSpec]) -> str:
        """Return the fingerprint of the stored tensors and this manifest."""
        # The JSON of [[name, dtype, shape, digest], ...], for which the encoder takes several times as long.
        kinds = {tensor: f'"{tensor.dtype}",{tensor.shape_text}' for tensor in set(tensors.values())}
        stored = [
            f'[{json_text(name)},{kinds[tensor]},"{digest}"]'
            for (name, tensor), digest in zip(tensors.items(), self.digests, strict=True)
        ]
        aliases, extra, layouts, storages = self._content()
        return _hash(
            f'{{"aliases":{aliases},"extra":{extra},"layouts":{layouts},"storages":{storages},'
            f'"stored":[{",".join(stored)}]}}'
        )

    def text(self, metadata: Mapping[str, str]) -> str:
        """Return the JSON text. Its length does not depend on the values of the digests and the fingerprint."""
        aliases, extra, layouts, storages = self._content()
        before = f'{{"aliases":{aliases},'
        after = (
            f'"digests":"{"".join(self.digests)}","extra":{extra},"fingerprint":"{self.fingerprint}",'
            f'"layouts":{layouts},"own":{_json(self.own)},"storages":{storages},"version":{VERSION}}}'
        )
        return f'{before}"checksum":"{_checksum(before + after, metadata)}",{after}'

    def _content(self) -> tuple[str, str, str, int]:
        """Return aliases, extra and layouts as JSON, and the number of storages."""
        position = {}
        if self.aliases or self.extra:
            position = {name: number for number, name in enumerate(self.names)}
        aliases = [[position[name], name, kept, *(view or ())] for name, (kept, view) in self.aliases.items()]
        extra = [[position[name], name, value] for name, value in self.extra.items()]
        return _json(aliases), _json(extra), _json(self.layouts), self.storages


def looks_like_manifest(text: str) -> bool:
    """Return True if a text under another key is a manifest, which means that the key was damaged."""
    return text.startswith('{"aliases":[') and '"fingerprint":' in text


def parse(
    text: str, tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str], path: str
) -> tuple[Manifest, dict[str, str]]:
    """Parse and validate the manifest. Return it with the user's metadata.

    tensors: the stored tensors. metadata: that of the file, which may repeat aliases for other readers.
    Raises VersionError for a newer file, CorruptError if anything is not what was written.
    """
    try:
        content = _DECODER.decode(text)
        if _version_of(content) > VERSION:
            _refuse_newer(content, text, metadata, path)
        manifest = _checked(content, tensors)
        user = _of_user(manifest, metadata)
        if not _fits(content["checksum"], text, user):
            _fail("its checksum does not match: names, ties or metadata were changed")
        if manifest.fingerprint_of(tensors) != manifest.fingerprint:
            _fail("its fingerprint does not match: names, dtypes or shapes were changed")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, VersionError):
            raise
        raise CorruptError(
            f"{path} is damaged: its manifest is not what was written ({error}). Use another copy of the file, or save "
            "what is intact with repair."
        ) from error
    return manifest, user


def _version_of(content: dict[str, Any]) -> int:
    version = _count(content["version"])
    return version if 1 <= version < 1 << 31 else _fail("its version is invalid")


def _refuse_newer(content: dict[str, Any], text: str, metadata: Mapping[str, str], path: str) -> NoReturn:
    """Raise VersionError, or ValueError if the checksum does not match: then the version number itself is damaged.

    Every later version must therefore keep "aliases", "own" and "checksum" as they are now.
    """
    repeated = {name for _, name, *_ in content["aliases"]} - set(content["own"])
    if not _fits(content["checksum"], text, {key: value for key, value in metadata.items() if key not in repeated}):
        _fail("its checksum does not match: its version was changed")
    raise VersionError(
        f"{path} was written by a newer statezoo (its version of the file is {content['version']}, and this statezoo "
        f"reads up to {VERSION}). Upgrade statezoo to load it."
    )


def _fits(checksum: str, text: str, user: Mapping[str, str]) -> bool:
    """Return True if a checksum matches the text, without the checksum itself, and the user's metadata."""
    return checksum == _checksum(text.replace(f'"checksum":"{checksum}",', "", 1), user)


def _of_user(manifest: Manifest, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without the entries that repeat aliases."""
    _check_text([*metadata, *metadata.values()])
    if not manifest.aliases:
        return dict(metadata)
    repeated = manifest.aliases.keys() - set(manifest.own)
    for name in repeated & metadata.keys():
        if metadata[name] != manifest.aliases[name].kept:
            _fail(f"the metadata tie {name!r} to another tensor")
    return {key: value for key, value in metadata.items() if key not in repeated}


def _checked(content: dict[str, Any], tensors: Mapping[str, TensorSpec]) -> Manifest:
    """Validate JSON that may be anything, and return the manifest. Raises what parse() catches."""
    storages = _count(content["storages"])
    kept_names = list(tensors)[: max(0, len(tensors) - storages)]
    aliases = {name: _alias(kept, view, tensors) for _, name, kept, *view in content["aliases"]}
    placed = {_count(entry[0]): entry[1] for entry in (*content["aliases"], *content["extra"])}
    if max(placed, default=-1) >= len(kept_names) + len(placed):
        _fail("a position beyond all names")
    names = _in_order(kept_names, placed)
    if len(names) != len(content["aliases"]) + len(content["extra"]) + len(kept_names) or len(set(names)) < len(names):
        _fail("a name or a position occurs twice")
    _check_text(names)
    layouts = {name: tuple(map(_count, order)) for name, order in content["layouts"].items()}
    for name, order in layouts.items():
        if sorted(order) != list(range(len(tensors[name].shape))):
            _fail(f"the axis order of {name!r} is invalid")
    text = content["digests"]
    if not _DIGESTS.fullmatch(text) or len(text) != DIGEST_LENGTH * len(tensors):
        _fail("the number of digests differs from the number of tensors")
    digests = tuple(text[start : start + DIGEST_LENGTH] for start in range(0, len(text), DIGEST_LENGTH))
    return Manifest(
        names=tuple(names),
        aliases=aliases,
        layouts=layouts,
        storages=storages,
        extra={name: value for _, name, value in content["extra"]},
        own=tuple(content["own"]),
        digests=digests,
        fingerprint=content["fingerprint"],
    )


def _alias(kept: str, view: list[Any], tensors: Mapping[str, TensorSpec]) -> Alias:
    if not view:
        return Alias(kept) if kept in tensors else _fail(f"a tie to {kept!r}, which is not in the file")
    dtype, shape, offset, strides = view
    geometry = View(dtype, tuple(map(_count, shape)), _count(offset), tuple(map(_integer, strides)))
    if not check_view(geometry, tensors[kept].size_bytes):
        _fail(f"a view leaves the memory of {kept!r}")
    return Alias(kept, geometry)


def _in_order(stored: list[str], placed: Mapping[int, str]) -> list[str]:
    """Return all names, with those in `placed` at their positions and the stored ones in between."""
    if not placed:
        return stored
    names: list[str] = []
    rest = iter(stored)
    for position in range(len(stored) + len(placed)):
        names.append(placed[position] if position in placed else next(rest, ""))
    return names


def _check_text(texts: list[str]) -> None:
    """Raise TypeError or ValueError unless all are strings without lone surrogates, which JSON could hold."""
    "".join(texts).encode()


def _count(value: Any) -> int:
    return value if _integer(value) >= 0 else _fail("a negative number")


def _integer(value: Any) -> int:
    return value if type(value) is int else _fail(f"{value!r:.40} is not an integer")


def _fail(what: str) -> Any:
    raise ValueError(what)


def _checksum(content: str, metadata: Mapping[str, str]) -> str:
    return _hash(f"[{content},{_json(metadata)}]")


def _hash(text: str) -> str:
    return xxh3_128_hexdigest(text.encode())


def _json(content: Any) -> str:
    # Usually the content is empty, and an encoder would cost more than all the rest.
    if not content:
        return "[]" if isinstance(content, list | tuple) else "{}"
    return _ENCODER.encode(content)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_fail)
