"""The content of a checkpoint except its tensors: the header of a file, or those of all shards together."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from ..errors import CorruptError, UnsupportedTypeError
from ..formats import Format, Opened, format_of_content
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
    ties, digests: those known without a manifest. unsupported: the entries that cannot be read, with the reason. notes:
    what the dtype does not say about a tensor.
    """

    def __init__(
        self,
        name: str,
        format: str,
        parts: list[Part],
        tensors: dict[str, TensorSpec],
        manifest: Manifest | None,
        metadata: dict[str, str],
        ties: Mapping[str, str],
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.format, self.parts, self.tensors = name, format, parts, tensors
        self.manifest, self.metadata = manifest, metadata
        self._digests = digests or {}
        if manifest is not None:
            self.aliases: Mapping[str, Alias] = manifest.aliases
        else:
            self.aliases = {name: Alias(kept) for name, kept in ties.items()}
        self.unsupported = {name: why for part in parts for name, why in part.opened.unsupported.items()}
        self.notes = {name: note for part in parts for name, note in part.opened.notes.items()}

    @property
    def names(self) -> list[str]:
        """The names of the state, in order, without those in `unsupported`."""
        return list(self.manifest.names if self.manifest else (*self.tensors, *self.aliases))

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


def open_one(file: Any, form: Format | None) -> Header:
    """Open one file, or anything else that source_of() takes. form: its format, or None to detect it by content."""
    source = source_of(file)
    try:
        with without_collection():
            form = form or format_of_content(source)
            return header_of(source, form, form.codec.open_source(source))
    except BaseException:
        source.close()
        raise


def header_of(source: Source, form: Format, opened: Opened) -> Header:
    """Check the manifest of an open source and return its header. If it raises CorruptError, everything is closed."""
    try:
        manifest, metadata, ties = None, opened.metadata, opened.ties
        if opened.manifest is not None:
            _refuse_unknown_dtypes(opened, source.name)
            manifest, metadata = parse(opened.manifest, opened.tensors, metadata, source.name, opened.is_sealed)
        part = Part(source, opened, manifest)
        return Header(source.name, form.name, [part], opened.tensors, manifest, metadata, ties)
    except BaseException:
        opened.close()
        raise


def _refuse_unknown_dtypes(opened: Opened, path: str) -> None:
    """Raise CorruptError if one of our files has entries that cannot be read, which we never write."""
    for name, why in opened.unsupported.items():
        raise CorruptError(f"{path} is damaged: tensor {name!r:.200}: {why}. Use another copy of the file.", (name,))
