"""The content of a checkpoint except its tensors: the header of a file, or those of all shards together."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from ..errors import CorruptError, UnsupportedTypeError
from ..formats import Checksum, Format, Opened, format_of_content
from ..state.digests import count_of
from ..state.manifest import Manifest, TensorSpec
from ..state.parsing import parse
from ..state.sharing import Alias
from ..storage.gc_pause import without_collection
from ..storage.source import Source, source_of

_MOST_LINES = 30


class Part(NamedTuple):
    """A file and the content of its header. manifest: its own, None in a foreign file."""

    source: Source
    opened: Opened
    manifest: Manifest | None


class Header:
    """The header of a checkpoint, whose files are open until close().

    name: the path, for messages. format: the name of the format. parts: the files that hold the tensors, one unless the
    checkpoint is sharded. tensors: all stored tensors, in order. manifest: None in foreign files. metadata: the user's.
    names: all names of the state, in order, without those in `unsupported`. aliases: the names whose memory is stored
    under another name. extra: the values that are not arrays. checksums: those of a foreign file, by the names of
    tensors. unsupported: the entries that cannot be read, with the reason. notes: what the dtype does not say about a
    tensor.
    ties, digests: those that a foreign index knows besides its parts.
    """

    def __init__(
        self,
        name: str,
        format: str,
        parts: list[Part],
        tensors: Mapping[str, TensorSpec],
        manifest: Manifest | None,
        metadata: dict[str, str],
        ties: Mapping[str, str] | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.format, self.parts, self.tensors = name, format, parts, tensors
        self.manifest, self.metadata = manifest, metadata
        self._digests = digests or {}
        opened = [part.opened for part in parts]
        if manifest is not None:
            self.aliases, self.extra, self._names = manifest.aliases, manifest.extra, list(manifest.names)
        else:
            self.aliases = {name: Alias(kept) for name, kept in (ties or {}).items()} | _joined(opened, "aliases")
            self.extra = _joined(opened, "extra")
            listed = [name for one in opened for name in (one.tensors if one.names is None else one.names)]
            self._names = list(dict.fromkeys((*listed, *self.aliases, *self.extra)))
        self.checksums: dict[str, Checksum] = _joined(opened, "checksums")
        self.unsupported: dict[str, str] = _joined(opened, "unsupported")
        self.notes: dict[str, str] = _joined(opened, "notes")

    @property
    def names(self) -> list[str]:
        """The names of the state, in order, without those in `unsupported`."""
        return list(self._names)

    @property
    def is_checked(self) -> bool:
        """Whether every stored tensor has a digest or a checksum in the file."""
        if self.manifest is not None:
            return True
        return bool(self.tensors) and self.tensors.keys() <= self._digests.keys() | self.checksums.keys()

    def refuse_unsupported(self, left_out: Container[str] = ()) -> None:
        """Raise UnsupportedTypeError listing the entries that cannot be read, except those left out."""
        lines = [f"\n  {name!r:.200}: {why}" for name, why in self.unsupported.items() if name not in left_out]
        if lines:
            more = f"\n  and {len(lines) - _MOST_LINES:,} more" if len(lines) > _MOST_LINES else ""
            raise UnsupportedTypeError(
                f"{self.name} has entries that cannot be read.{''.join(lines[:_MOST_LINES])}{more}\n"
                "Load the rest with skip_unsupported=True, or save it to a new file with checkpoints.repair()."
            )

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each stored tensor. Empty for foreign files."""
        return dict(zip(self.tensors, self.manifest.digests, strict=True)) if self.manifest else dict(self._digests)

    @property
    def copies(self) -> Mapping[str, str]:
        """The digest of each alias that has bytes of its own in the file. Empty unless the file is expanded."""
        return self.manifest.copies if self.manifest else {}

    @property
    def lengths(self) -> Mapping[str, int]:
        """The number of uint64 in each storage that is not in the file. Empty unless the file is expanded."""
        return self.manifest.lengths if self.manifest else {}

    @property
    def fingerprint(self) -> str | None:
        """The hash of the content, None in foreign files. Raises CorruptError if names and digests give another."""
        if self.manifest is None:
            return None
        if self.manifest.fingerprint_of(self.tensors) != self.manifest.fingerprint:
            raise CorruptError(
                f"{self.name} is damaged: its fingerprint is not that of its content. Use another copy of it."
            )
        return self.manifest.fingerprint

    @property
    def has_old_digests(self) -> bool:
        """Whether a save today would give a tensor another digest, and the state another fingerprint."""
        if self.manifest is None or self.manifest.version > 1:
            return False
        return any(count_of(tensor.size_bytes) > 1 for tensor in set(self.tensors.values()))

    def __enter__(self) -> Header:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        for part in self.parts:
            part.opened.close()
            part.source.close()


def _joined(opened: list[Opened], field: str) -> dict[str, Any]:
    """Return the entries of a field of the content of all files."""
    return {name: value for one in opened for name, value in getattr(one, field).items()}


def open_one(file: Any, form: Format | None, dequantize: bool = False) -> Header:
    """Open one file, or anything else that source_of() takes. form: its format, or None to detect it by content.

    dequantize: read quantised tensors as numbers.
    """
    source = source_of(file)
    try:
        with without_collection():
            form = form or format_of_content(source)
            opened = form.codec.open_source(source)
            if dequantize and opened.dequantized is not None:
                opened = opened.dequantized()
            return header_of(source, form, opened)
    except BaseException:
        source.close()
        raise


def header_of(source: Source, form: Format, opened: Opened) -> Header:
    """Check the manifest of an open source and return its header. If it raises CorruptError, everything is closed."""
    try:
        manifest, metadata = None, opened.metadata
        if opened.manifest is not None:
            _refuse_unknown_dtypes(opened, source.name)
            manifest, metadata = parse(opened.manifest, opened.tensors, metadata, source.name, opened.is_sealed)
        parts = [Part(source, opened, manifest), *(Part(file, content, None) for file, content in opened.beside)]
        tensors = manifest.stored(opened.tensors) if manifest else _tensors_of(parts)
        return Header(source.name, form.name, parts, tensors, manifest, metadata)
    except BaseException:
        opened.close_all()
        raise


def _tensors_of(parts: list[Part]) -> dict[str, TensorSpec]:
    """Return the stored tensors of a foreign file and of those beside it, in the order of the names."""
    first, *others = (part.opened for part in parts)
    tensors = first.tensors if not others else first.tensors | _joined(others, "tensors")
    return {name: tensors[name] for name in first.names or () if name in tensors} if others else tensors


def _refuse_unknown_dtypes(opened: Opened, path: str) -> None:
    """Raise CorruptError if one of our files has entries that cannot be read, which we never write."""
    for name, why in opened.unsupported.items():
        raise CorruptError(f"{path} is damaged: tensor {name!r:.200}: {why}. Use another copy of the file.", (name,))
