"""The parsing of a manifest, which may be damaged, changed by another program, or made to do harm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from ..errors import CorruptError, VersionError
from . import version_1
from .digests import BYTES
from .expansion import fits_in_storage, slices_of
from .manifest import DIGEST_LENGTH, FORMAT, VERSION, Manifest, TensorSpec, counts_of, hash_of, json_of, stored_of
from .sharing import Alias, View, check_view


def parse(
    text: str, tensors: Mapping[str, TensorSpec], metadata: Mapping[str, str], path: str, is_sealed: bool = False
) -> tuple[Manifest, dict[str, str]]:
    """Parse and validate the manifest. Return it with the user's metadata.

    tensors: the stored tensors. metadata: that of the file, which may have entries that are not the user's.
    is_sealed: whether a digest of the format shows that nothing in the header was changed since it was written.
    Raises VersionError for a newer file, CorruptError if anything is not what was written.
    """
    try:
        if version_1.is_version_1(text):
            content = version_1.content_of(text, metadata, _fail)
        else:
            content = _content_of(text, path, is_sealed)
        manifest = _checked(content, tensors)
        user = _of_user(manifest, metadata)
        if not is_sealed:
            _check_rest(manifest, content, text, tensors, user)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, VersionError):
            raise
        raise CorruptError(
            f"{path} is damaged: its manifest is not what was written ({error}). Use another copy of the file, or save "
            "what is intact with repair."
        ) from error
    return manifest, user


def _content_of(text: str, path: str, is_sealed: bool) -> dict[str, Any]:
    """Return the fields, as text, and the entries of the JSON. Raises what parse() catches."""
    version_field, checksum_field, after = text.split(" ", 2)
    version = _number(_value_of("version", version_field))
    # A changed version number is damage. It must not look like a newer file.
    if not is_sealed and checksum_field != f"checksum={hash_of(f'{version_field} {after}')}":
        _fail("its checksum does not match: its version, ties or digests were changed")
    if version > VERSION:
        raise VersionError(
            f"{path} was written by a newer statezoo (its version of the file is {version}, and this statezoo reads up "
            f"to {VERSION}). Upgrade statezoo to load it."
        )
    if version != VERSION:
        _fail("its version is invalid")
    *fields, last = after.split(" ", 4)
    blocks, _, rest = last.partition(" ")  # split() takes far longer for a text as long as the digests of many blocks
    values = {name: _value_of(name, field) for name, field in zip(_FIELDS, (*fields, blocks), strict=True)}
    entries = _DECODER.decode(rest)
    return _NOTHING | entries | values | {"version": version, "storages": _number(values["storages"])}


_FIELDS = ("fingerprint", "metadata", "storages", "digests", "blocks")
_NOTHING: dict[str, Any] = {"aliases": [], "extra": [], "layouts": {}, "expanded": None, "own": []}


def _value_of(name: str, field: str) -> str:
    if not field.startswith(f"{name}="):
        _fail(f"it has no {name}")
    return field[len(name) + 1 :]


def _number(text: str) -> int:
    return int(text) if len(text) < 10 and text.isascii() and text.isdigit() else _fail(f"{text!r:.40} is not a number")


def _check_rest(
    manifest: Manifest,
    content: Mapping[str, Any],
    text: str,
    tensors: Mapping[str, TensorSpec],
    user: Mapping[str, str],
) -> None:
    """Raise ValueError if metadata or tensors are not those that the manifest was written for."""
    if manifest.version == 1:
        is_users = version_1.fits(text, content["checksum"], user)
    else:
        is_users = content["metadata"] == hash_of(json_of(user))
    if not is_users:
        _fail("its checksum does not match: names, ties or metadata were changed")
    if manifest.fingerprint_of(manifest.stored(tensors)) != manifest.fingerprint:
        _fail("its fingerprint does not match: names, dtypes or shapes were changed")


def _of_user(manifest: Manifest, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without the entries that the format added: ties, and "format"."""
    _check_text([*metadata, *metadata.values()])
    added = {FORMAT, *manifest.aliases} - set(manifest.own)
    for name in (added - {FORMAT}) & metadata.keys():
        if metadata[name] != manifest.aliases[name].kept:
            _fail(f"the metadata tie {name!r} to another tensor")
    return {key: value for key, value in metadata.items() if key not in added}


def _checked(content: dict[str, Any], in_file: Mapping[str, TensorSpec]) -> Manifest:
    """Validate content that may be anything, and return the manifest. Raises what parse() catches."""
    digests = _digests(content["digests"], len(in_file))
    copies, lengths, apart = _expanded(content, in_file, digests)
    tensors = stored_of(in_file, copies, lengths)
    storages = _count(content["storages"]) + len(lengths)
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
    manifest = Manifest(
        names=tuple(names),
        aliases=aliases,
        layouts=layouts,
        storages=storages,
        extra={name: value for _, name, value in content["extra"]},
        own=tuple(content["own"]),
        digests=(*digests[: len(digests) - len(copies)], *apart),
        blocks=_blocks(content["blocks"], in_file),
        fingerprint=_hexadecimal(content["fingerprint"], 1),
        version=content["version"],
        copies=copies,
        lengths=lengths,
    )
    _check_copies(manifest, tensors, in_file)
    return manifest


def _expanded(
    content: Mapping[str, Any], in_file: Mapping[str, TensorSpec], digests: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, int], list[str]]:
    """Return the digests of copies, by name, and the lengths and the digests of the storages that are not in the file.

    All are empty unless the file is expanded.
    """
    if content.get("expanded") is None:
        return {}, {}, []
    names = [entry[1] for entry in content["aliases"]]
    if not names or names != list(in_file)[-len(names) :]:
        _fail("the copies of its ties and views are missing")
    lengths = {name: _count(length) for name, length, _ in content["expanded"]}
    if len(lengths) < len(content["expanded"]) or lengths.keys() & in_file.keys():
        _fail("a name occurs twice")
    copies = dict(zip(names, digests[-len(names) :], strict=True))
    return copies, lengths, [_hexadecimal(digest, 1) for _, _, digest in content["expanded"]]


def _check_copies(manifest: Manifest, tensors: Mapping[str, TensorSpec], in_file: Mapping[str, TensorSpec]) -> None:
    """Raise ValueError if the copies in an expanded file are not those of its ties and views."""
    if not manifest.copies:
        return
    digests = dict(zip(tensors, manifest.digests, strict=True))
    for name, (kept, view) in manifest.aliases.items():
        if in_file[name] != (tensors[kept] if view is None else TensorSpec(view.dtype, view.shape)):
            _fail(f"the copy {name!r:.200} has another dtype or shape")
        if view is None and manifest.copies[name] != digests[kept]:
            _fail(f"{name!r:.200} and {kept!r:.200} are one tensor, but hold different values")
    for storage, slices in slices_of(manifest.lengths, manifest.aliases).items():
        if not fits_in_storage(manifest.lengths[storage], slices.values()):
            _fail(f"{storage!r:.200} is too large")


def _digests(text: str, count: int) -> tuple[str, ...]:
    _hexadecimal(text, count)
    return tuple([text[start : start + DIGEST_LENGTH] for start in range(0, len(text), DIGEST_LENGTH)])


def _hexadecimal(text: str, count: int) -> str:
    """Return the digits of `count` digests. Anything else might end up on a terminal."""
    if len(text) != DIGEST_LENGTH * count:
        _fail(f"there are {len(text):,} digits of {count:,} digests")
    return text if bytes.fromhex(text).hex() == text else _fail("a digest has other characters than digits")


def _blocks(text: str, tensors: Mapping[str, TensorSpec]) -> str:
    """Check the length of the digests of blocks, and return them. They may end after any tensor that has several."""
    lengths = accumulate(counts_of(tensors).values()) if text else ()
    if text and len(text) not in {-(-BYTES * count // 3) * 4 for count in lengths}:
        _fail("the number of blocks differs from that of the tensors")
    return text


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


_DECODER = json.JSONDecoder(parse_constant=_fail)
