"""The table of file formats, and the interface that each format implements.

A format is one module and one row. The row is a `Format`; the module has the functions of a `Codec`. A codec knows
where things are in a file. It knows nothing about sharing, digests or models, and does not move the bytes of tensors.
The module of a built-in format is imported when the format is first used. `register` adds other formats.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from ..errors import ArgumentError, FormatError
from ..state.manifest import TensorSpec
from ..state.sharing import Alias
from ..storage.source import Source
from ..storage.threads import undisturbed


class Layout(NamedTuple):
    """The layout of a file to be written.

    offsets: where each tensor goes. seal: takes the final manifest and returns the rest of the file, as pairs of an
    offset and bytes. crc32: for a format that needs checksums, that of what comes before each tensor, which the save
    continues over the bytes of the tensor before it calls `seal`.
    """

    offsets: dict[str, int]
    seal: Callable[[str], list[tuple[int, bytes]]]
    crc32: dict[str, int] | None = None


def _nothing() -> None:
    pass


class Checksum(NamedTuple):
    """The CRC-32 of a range of bytes in a file: a tensor, or a member of an archive with tensors in it."""

    offset: int
    size_bytes: int
    crc32: int


@dataclass(slots=True)
class Opened:
    """The content of a file's header.

    tensors: the stored tensors, in order. offsets: where the bytes of each start, C-contiguous and little-endian. A
    tensor that is stored in any other way has no offset; read(name) returns its values. metadata: all entries except
    the manifest. manifest: its text, or None in a foreign file. close: frees what `read` needs. unsupported: the
    entries that cannot be read, each with the reason, a clause such as "it holds text". notes: what a dtype does not
    say about a tensor, such as the names of an enumeration. is_sealed: whether a digest shows that the whole header is
    what was written.

    What a foreign file has instead of a manifest: aliases: the names whose memory is that of a stored tensor. Views
    are valid for its size (check_view). extra: values that are not arrays, but JSON. names: all names of the state in
    order, without the stored tensors that only views use; None for the tensors, the aliases, then the extra values.
    checksums: the checksums of the bytes that the tensors come from, for tensors with or without an offset.
    dequantized: returns the same content with the quantised tensors, which are unsupported here, as numbers. beside:
    other files that hold tensors of this one, each with its content; `names` then lists the names of all. nested:
    returns the dicts and lists of the file, with the given values for the names.
    """

    tensors: dict[str, TensorSpec]
    offsets: dict[str, int]
    metadata: dict[str, str] = field(default_factory=dict)
    manifest: str | None = None
    aliases: dict[str, Alias] = field(default_factory=dict)
    read: Callable[[str], np.ndarray] | None = None
    close: Callable[[], None] = _nothing
    unsupported: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    is_sealed: bool = False
    nested: Callable[[Mapping[str, Any]], Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    names: list[str] | None = None
    checksums: dict[str, Checksum] = field(default_factory=dict)
    dequantized: Callable[[], Opened] | None = None
    beside: list[tuple[Source, Opened]] = field(default_factory=list)

    def close_all(self) -> None:
        """Free what `read` needs, here and in the files beside this one, and close those."""
        self.close()
        for source, opened in self.beside:
            opened.close()
            source.close()


def most_expanded_bytes(file_bytes: int) -> int:
    """Return how many bytes the compressed content of a file may take in memory."""
    return 128 * file_bytes + (16 << 20)


class Salvaged(NamedTuple):
    """The readable part of a damaged file.

    source: where to read from, possibly the file with its size or structure corrected. opened: the header. notes: what
    is wrong with the file outside its tensors. whole: whether the header still lists everything that the file held.
    """

    source: Source
    opened: Opened
    notes: list[str]
    whole: bool = True


class Codec(Protocol):
    """The functions of the module of a format that is read."""

    def matches(self, source: Source) -> bool:
        """Return True if a file looks like one of this format."""
        ...

    def open_source(self, source: Source) -> Opened:
        """Parse and validate the header of a file. Raises FormatError or CorruptError."""
        ...


class WritingCodec(Codec, Protocol):
    """The functions of the module of a format that is read and written."""

    def lay_out(
        self,
        tensors: Mapping[str, TensorSpec],
        aliases: Mapping[str, Alias],
        metadata: Mapping[str, str],
        manifest: str,
    ) -> Layout:
        """Return the layout of a file. manifest: a placeholder as long as the final text.

        Raises StateError if the format cannot hold the state.
        """
        ...

    def salvage(self, source: Source) -> Iterator[Salvaged]:
        """Yield the ways to read a damaged file, the most complete first.

        The caller uses the first one with a valid manifest. Raises CorruptError if too much is damaged.
        """
        ...

    def read_as_stock(self, path: str) -> dict[str, bytes]:
        """Return the bytes of each stored tensor as the usual library for the format reads them."""
        ...


@dataclass(frozen=True)
class Format:
    """A file format, one row of the table.

    name: in lower case. suffixes: the suffixes of its files; new files get the first one. module: the codec, or the
    name of the module that is the codec, imported when it is needed. shards: whether a state may be split across files.
    writes: whether states are saved in the format; a read-only one needs only a `Codec`. starts: what its files start
    with, one of them, if that is known: the module is not imported to look at a file that starts differently. instead:
    how to write a file of a read-only format without this library, such as "pass the arrays to torch.save". layouts:
    other ways to write a file of the format, by name, each with the suffix of such files and the module that does it,
    a codec with the function `is_laid_out(source)`.
    """

    name: str
    suffixes: tuple[str, ...]
    module: str | Codec
    shards: bool = False
    writes: bool = True
    starts: tuple[bytes, ...] = ()
    instead: str = ""
    layouts: Mapping[str, tuple[str, str]] = field(default_factory=dict, hash=False)

    @property
    def suffix(self) -> str:
        """The suffix of new files."""
        return self.suffixes[0]

    @property
    def codec(self) -> Codec:
        """The module that reads the format."""
        if not isinstance(self.module, str):
            return self.module
        codec = _codecs.get(self.module)
        if codec is None:
            importing = partial(importlib.import_module, self.module, __package__)
            # Ours is imported where no signal handler can come in between and find half of it.
            codec = undisturbed(importing) if self.module.startswith(".") else importing()
            _codecs[self.module] = codec
        return cast(Codec, codec)

    @property
    def writing_codec(self) -> WritingCodec:
        """The module that reads and writes the format. Raises FormatError if the format is only read."""
        refuse_read_only(self, f"a file ending in {self.suffix}")
        return cast(WritingCodec, self.codec)


_codecs: dict[str, ModuleType] = {}

DEFAULT = Format("safetensors", (".safetensors",), ".safetensors", shards=True)

_FORMATS = {
    DEFAULT.name: DEFAULT,
    "hdf5": Format("hdf5", (".h5", ".hdf5"), ".hdf5", layouts={"keras": (".weights.h5", ".keras.layout")}),
    "npz": Format("npz", (".npz",), ".npz", starts=(b"PK\3\4", b"PK\5\6")),
    "npy": Format(
        "npy",
        (".npy",),
        ".npz.npy",
        writes=False,
        starts=(b"\x93NUMPY",),
        instead="pass a single array to numpy.save",
    ),
    "torch": Format(
        "torch",
        (".pt", ".pth", ".bin", ".ckpt"),
        ".torch",
        shards=True,
        writes=False,
        starts=(b"PK\3\4",),
        instead="pass the arrays to torch.save, each made a tensor by torch.from_numpy",
    ),
    "keras": Format(
        "keras",
        (".keras",),
        ".keras",
        writes=False,
        starts=(b"PK\3\4",),
        instead='load the weights into a Keras model and call its save("model.keras")',
    ),
    "keras-index": Format(
        "keras-index",
        (".weights.json",),
        ".keras.index",
        writes=False,
        starts=(b"{",),
        instead="load the weights into a Keras model and call its save_weights with max_shard_size",
    ),
    "gguf": Format(
        "gguf",
        (".gguf",),
        ".packaged.gguf",
        writes=False,
        starts=(b"GGUF",),
        instead="pass the arrays to gguf.GGUFWriter",
    ),
    "onnx": Format(
        "onnx",
        (".onnx",),
        ".packaged.onnx",
        writes=False,
        starts=(b"\x08",),
        instead="pass a model to statezoo.zoo.export",
    ),
}


def register(form: Format) -> None:
    """Add a format, so that every function of the library accepts its files.

    Raises ArgumentError if its name or a suffix is malformed, or belongs to another format.
    """
    for suffix in form.suffixes:
        if not suffix.startswith("."):
            raise ArgumentError(f"{suffix!r} is not a suffix: it does not start with a dot.")
    for name in (form.name, *form.suffixes):
        if name != name.lower():
            raise ArgumentError(f"{name!r} has capital letters. Names and suffixes of formats are in lower case.")
        if (known := _find(name)) is not None:
            raise ArgumentError(f"{name!r} already names the format {known.name}. Choose another name or suffix.")
    _FORMATS[form.name] = form


def known_formats() -> tuple[Format, ...]:
    """Return all formats, the default one first."""
    return tuple(_FORMATS.values())


def written_formats() -> tuple[Format, ...]:
    """Return the formats in which states are saved, the default one first."""
    return tuple(form for form in _FORMATS.values() if form.writes)


def refuse_read_only(form: Format, what: str) -> None:
    """Raise FormatError, with what to do instead, if a format is only read. what: the path or name, for the message."""
    if not form.writes:
        *most, last = (written.suffix for written in written_formats())
        others = f", or {form.instead}" if form.instead else ""
        raise FormatError(
            f"{what} is {form.name}, which is read but not written. Save to {', '.join(most)} or {last}{others}."
        )


def with_layout(form: Format, layout: str | None, path: str | None) -> Format:
    """Return a format that writes its files in a layout. path: where to; None for an open file.

    Raises ArgumentError, naming the suffix to use, if the format has no such layout or the path has another suffix.
    """
    if layout is None:
        return form
    suffix, module = form.layouts.get(layout, ("", ""))
    if module and (path is None or path.lower().endswith(suffix)):
        return replace(form, module=module)
    known = {name: (other.name, end) for other in _FORMATS.values() for name, (end, _) in other.layouts.items()}
    if layout not in known:
        raise ArgumentError(f"{layout!r} is not a layout. The known ones are {', '.join(map(repr, known))}.")
    name, suffix = known[layout]
    advice = f"a path ending in {suffix}" if path else f"format={name!r}"
    raise ArgumentError(f"{path or 'the open file'} cannot have the layout {layout!r}. Give {advice}.")


def layout_of(form: Format, source: Source) -> str | None:
    """Return the layout that a file of a format was written with, None for the usual one."""
    for layout, (_, module) in form.layouts.items():
        codec: Any = replace(form, module=module).codec
        if codec.is_laid_out(source):
            return layout
    return None


def known_suffixes() -> tuple[str, ...]:
    """Return all suffixes of all formats."""
    return tuple(suffix for form in _FORMATS.values() for suffix in form.suffixes)


def format_named(name: str) -> Format:
    """Return the format for a name ("hdf5") or suffix ("h5" or ".h5"). Raises FormatError listing the known ones."""
    form = _find(str(name).lower())
    if form is not None:
        return form
    known = ", ".join(f"{form.name} ({' or '.join(form.suffixes)})" for form in _FORMATS.values())
    raise FormatError(f"{name!r} is not a format. The known formats are {known}.")


def format_of(path: str) -> Format:
    """Return the format for the suffix of `path`. Raises FormatError listing the known suffixes if it is unknown."""
    if "\0" in path:
        raise FormatError(f"{path!r} is not a path: it contains a NUL character.")
    form = _by_suffix(path)
    if form is None:
        suffix = os.path.splitext(path)[1].lower()
        known = ", ".join(known_suffixes())
        raise FormatError(f"{path} names no format: its suffix is {suffix!r}, and the known ones are {known}.")
    return form


def is_shardable(path: str) -> bool:
    """Return True if `path` has the suffix of a format whose states may be split across files."""
    form = _by_suffix(path)
    return form is not None and form.shards


def format_like(source: Source) -> Format | None:
    """Return the format that a source looks like, judging by its content. Return None if it looks like no format."""
    forms = known_formats()
    head = source.read(0, min(max(len(start) for form in forms for start in (*form.starts, b"")), source.size_bytes))
    # First those that are told by their first bytes. HDF5 may begin later, even in an archive that holds such a file.
    signed = (form for form in forms if head.startswith(form.starts))
    others = (form for form in forms if not form.starts)
    return next((form for form in (*signed, *others) if form.codec.matches(source)), None)


def format_of_content(source: Source) -> Format:
    """Return the format of a source without a path by its content, or the default format if it looks like no other."""
    return format_like(source) or DEFAULT


def _find(name: str) -> Format | None:
    suffix = f".{name.removeprefix('.')}"
    return next((form for form in _FORMATS.values() if name == form.name or suffix in form.suffixes), None)


def _by_suffix(path: str) -> Format | None:
    stem, last = os.path.splitext(path.lower())
    suffixes = {last, os.path.splitext(stem)[1] + last}  # of one part, or of two: ".weights.json"
    return next((form for form in _FORMATS.values() if not suffixes.isdisjoint(form.suffixes)), None)
