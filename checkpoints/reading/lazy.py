"""An open checkpoint: its names are known at once, and its tensors are read when they are used."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from ..errors import UnknownTensorError, UnsupportedTypeError, enough_memory
from ..state import dtypes
from ..state.deferred import Deferred
from ..state.manifest import TensorSpec
from ..state.sharing import Alias, Packed, rebuilt, unpack
from ..storage.gc_pause import without_collection
from .reader import Mmap, Reader
from .repacking import packed_again
from .slicing import is_basic


class LazyTensor(Deferred):
    """A tensor in an open checkpoint: shape and dtype are known, and indexing reads the requested part.

    name: the name of the tensor whose bytes it has; tied names have the same LazyTensor. digest: that in the file; None
    for views and in foreign files.
    """

    def __init__(self, reader: Reader, name: str, tensor: TensorSpec) -> None:
        super().__init__(tensor.shape, dtypes.numpy_dtype(tensor.dtype), self._whole)
        self.name, self.nbytes, self._reader = name, tensor.size_bytes, reader
        alias = reader.header.aliases.get(name)
        # In an expanded file, a view has bytes of its own.
        self._alias = alias if alias is not None and alias.view is not None and name not in reader.digests else None
        self.digest = None if alias else reader.digests.get(name)

    def __getitem__(self, key: Any) -> Any:
        """Return tensor[key] as NumPy would, in new memory. Raises CorruptError, IndexError or ClosedError."""
        with enough_memory(f"{self.name!r} of {self._reader.header.name} was not read", "Read a smaller part of it."):
            return self._read(key)

    def _read(self, key: Any) -> Any:
        if self._alias is None:
            return self._reader.whole(self.name) if key is Ellipsis else self._reader.part_of(self.name, key)
        # A view may repeat its elements so often that only its memory, not its values, fits into memory.
        if self._order() is not None or not is_basic(key):
            return self._view()[key].copy()
        return self._reader.part_of(self._alias.kept, key, self._alias.view)

    def blocks(self, length: int) -> Iterator[np.ndarray]:
        """Yield the values in order, in flat arrays of `length` elements, reading one block at a time.

        A view is read as a whole. Raises CorruptError, after the last block, if the tensor is damaged.
        """
        if self._alias is None:
            return self._reader.blocks(self.name, length)
        view = self._view()
        # A copy of a view that repeats its elements may be far larger than its memory.
        values = view.reshape(-1) if view.flags.c_contiguous else view.flat
        return (values[start : start + length] for start in range(0, view.size, length))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without axes has no length")
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<LazyTensor {self.name!r}: {self.dtype} {self.shape}>"

    def _whole(self) -> np.ndarray:
        return self[...]

    def _view(self) -> np.ndarray:
        assert self._alias is not None
        assert self._alias.view is not None
        memory, order = self._reader.whole(self._alias.kept), self._order()
        return rebuilt(memory if order is None else memory.transpose(order), self._alias.view)

    def _order(self) -> tuple[int, ...] | None:
        """Return the layout of the memory that a view is part of, or None if it is stored as it is in memory."""
        manifest = self._reader.header.manifest
        return manifest.layouts.get(self._alias.kept) if self._alias and manifest else None


class UnsupportedEntry:
    """An entry of an open checkpoint that cannot be read. reason: why.

    Access to its shape, dtype or values raises UnsupportedTypeError.
    """

    def __init__(self, name: str, reason: str, path: str) -> None:
        self.name, self.reason, self._path = name, reason, path

    @property
    def shape(self) -> tuple[int, ...]:
        """Raise UnsupportedTypeError."""
        self.refuse()

    @property
    def dtype(self) -> np.dtype:
        """Raise UnsupportedTypeError."""
        self.refuse()

    def __getitem__(self, key: Any) -> NoReturn:
        self.refuse()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        self.refuse()

    def __repr__(self) -> str:
        return f"<UnsupportedEntry {self.name!r}: {self.reason}>"

    def refuse(self) -> NoReturn:
        """Raise UnsupportedTypeError."""
        raise UnsupportedTypeError(f"{self.name!r} in {self._path} cannot be read: {self.reason}.")


class Checkpoint(Mapping[str, Any]):
    """An open checkpoint, a mapping of names to LazyTensors. Extra state is there as it was saved.

    An entry that cannot be read is an UnsupportedEntry, and `unsupported` has the reason.

    Several threads may read at once. If save_file replaces the file meanwhile, this still reads the file that was
    opened.
    """

    # The names that packed() may leave out without an error.
    _left_out: Container[str] = ()

    def __init__(self, reader: Reader, reopen: Callable[..., Checkpoint] | None = None) -> None:
        header = reader.header
        self._reader, self._header, self._reopen = reader, header, reopen
        self._extra = dict(header.extra)
        self._stored = {name: LazyTensor(reader, name, tensor) for name, tensor in header.tensors.items()}
        self._views: dict[Alias, LazyTensor] = {}
        self._values = {name: self._value(name) for name in header.names}
        self._values |= {name: UnsupportedEntry(name, why, header.name) for name, why in header.unsupported.items()}

    def _value(self, name: str) -> Any:
        alias = self._header.aliases.get(name)
        if alias is not None and alias.view is not None:
            spec = TensorSpec(alias.view.dtype, alias.view.shape)
            return self._views.setdefault(alias, LazyTensor(self._reader, name, spec))
        return self._extra[name] if name in self._extra else self._stored[alias.kept if alias else name]

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise UnknownTensorError(name, self.name, self._values)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Checkpoint {self.name}: {self.format}, {len(self):,} names>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is None:
            raise UnsupportedTypeError(
                f"{self.name} cannot be pickled: it was not opened by a path. Open a path, or pickle load_file(file)."
            )
        return partial(self._reopen, verify=self._reader.verify), ()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. What was read stays valid; reading more raises ClosedError."""
        self._reader.close()

    @property
    def name(self) -> str:
        """The path, as in messages."""
        return self._header.name

    @property
    def format(self) -> str:
        """The format: safetensors or hdf5."""
        return self._header.format

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata that the file was saved with, or the strings of a foreign file."""
        return dict(self._header.metadata)

    @property
    def ties(self) -> dict[str, str]:
        """The names that share the memory of another name, ties and views alike, with that name."""
        return {name: alias.kept for name, alias in self._header.aliases.items()}

    @property
    def aliases(self) -> Mapping[str, Alias]:
        """The same names with the view of the shared memory that each of them is, see sharing.py."""
        return self._header.aliases

    @property
    def unsupported(self) -> dict[str, str]:
        """The names of the entries that cannot be read, each with the reason."""
        return dict(self._header.unsupported)

    @property
    def fingerprint(self) -> str | None:
        """The hash of the content, equal for the same state in both formats. None in foreign files."""
        return self._header.fingerprint

    @property
    def has_old_digests(self) -> bool:
        """Whether fingerprint and digests differ from those of the same state saved today: in files of version 1."""
        return self._header.has_old_digests

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each stored tensor, from the file. Empty for foreign files."""
        return self._header.digests

    @property
    def stored(self) -> dict[str, LazyTensor]:
        """The tensors whose bytes are in the file, each once: no ties or views, but any storages they are parts of."""
        return dict(self._stored)

    def damaged(self, name: str) -> bool:
        """Return True if the stored bytes do not match their digest or checksum. Return False if they have none."""
        return not self._reader.is_intact(name)

    def packed(self) -> Packed:
        """Return the state as sharing.pack() would, with arrays that are read later.

        Raises UnsupportedTypeError if an entry cannot be read.
        """
        self._header.refuse_unsupported(self._left_out)
        header, manifest = self._header, self._header.manifest
        if manifest is None:
            return packed_again(self._reader, self._stored, {name: self._values[name] for name in header.names})
        packed = Packed(header.names, dict(self._stored), dict(header.aliases), extra=dict(self._extra))
        packed.layouts = dict(manifest.layouts)
        packed.storages = list(self._stored)[len(self._stored) - manifest.storages :]
        return packed

    def load(self, mmap: Mmap = False, *, prefix: str = "", skip_unsupported: bool = False) -> dict[str, Any]:
        """Load the state as load_file does, or only the names that start with `prefix`. Nothing else is read."""
        return load_state(
            self._reader, mmap, skip_unsupported, (lambda name: name.startswith(prefix)) if prefix else None
        )

    def refuse_changed(self) -> None:
        """Raise CorruptError if another program has changed the file, and what was mapped, since it was opened."""
        self._reader.refuse_changed()

    def load_names(self, names: Container[str], mmap: Mmap = False) -> dict[str, Any]:
        """Load only these names of the state. Nothing else is read."""
        return load_state(self._reader, mmap, wanted=names.__contains__)


def load_state(
    reader: Reader, mmap: Mmap, skip_unsupported: bool = False, wanted: Callable[[str], bool] | None = None
) -> dict[str, Any]:
    """Load the state from a reader: arrays with the sharing they were saved with, and the extra state.

    wanted: load only the names for which it returns True, and read and check only their bytes.
    Raises UnsupportedTypeError if one of these entries cannot be read, unless such entries are skipped.
    """
    header, manifest = reader.header, reader.header.manifest
    if not skip_unsupported:
        header.refuse_unsupported([name for name in header.unsupported if wanted and not wanted(name)])
    names, aliases, stored = header.names, dict(header.aliases), None
    if wanted is not None:
        names = [name for name in names if wanted(name)]
        aliases = {name: alias for name, alias in aliases.items() if wanted(name)}
        stored = {aliases[name].kept if name in aliases else name for name in names}
    with without_collection():
        packed = Packed(names, dict(reader.all(mmap, stored)), aliases)
        if manifest is not None:
            layouts = manifest.layouts.items()
            packed.layouts = {name: order for name, order in layouts if stored is None or name in stored}
        packed.extra = dict(header.extra)
        state = unpack(packed)
    if header.copies:
        reader.check_copies(state)
    return state
