"""The files beside an ONNX model that hold values of its tensors."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np

from ...errors import FormatError, ReadError
from ...state.manifest import TensorSpec
from ...state.sharing import Alias
from ...storage.source import FileSource, Source
from .. import Opened
from ..entries import InvalidError
from .tensors import PACKED_BITS, StoredTensor, stored_bytes

_MOST_DIGITS = 20


class _File:
    """An open file, and the tensors in it. places: offset, type and shape of each, with its name."""

    def __init__(self, path: str) -> None:
        self.source = FileSource(path)
        self.places: dict[tuple[int, TensorSpec], str] = {}
        self.taken_bytes = 0


class Beside:
    """The files beside a model, which are open until close(). aliases: tensors whose bytes have another name too."""

    def __init__(self, model: Source) -> None:
        self._model = model
        self._files: dict[str, _File] = {}
        self._paths: dict[str, str] = {}
        self.aliases: dict[str, Alias] = {}

    def add(self, tensor: StoredTensor, spec: TensorSpec) -> None:
        """Add a tensor. Raises InvalidError, FormatError, or ReadError if the file is missing."""
        entry, size_bytes = tensor.external or {}, stored_bytes(spec)
        file = self._file_at(entry.get("location", ""), tensor.name)
        offset = _number_in(entry, "offset", 0)
        length = _number_in(entry, "length", size_bytes)
        if length != size_bytes:
            raise InvalidError(f"tensor {tensor.name!r:.200} takes {size_bytes:,} bytes, and the file says {length:,}")
        if offset + length > file.source.size_bytes:
            raise InvalidError(f"tensor {tensor.name!r:.200} reaches beyond the end of {file.source.name}")
        kept = file.places.setdefault((offset, spec), tensor.name)
        if kept != tensor.name:
            self.aliases[tensor.name] = Alias(kept)
            return
        file.taken_bytes += size_bytes
        if file.taken_bytes > file.source.size_bytes:
            raise InvalidError(f"tensor {tensor.name!r:.200} has bytes that belong to another tensor")

    def opened(self, read: Callable[[str, bytes, TensorSpec], np.ndarray]) -> list[tuple[Source, Opened]]:
        """Return the files with their content. read: returns a tensor from its bytes, if they are packed."""
        return [(file.source, _content_of(file, read)) for file in self._files.values()]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.source.close()

    def _file_at(self, location: str, name: str) -> _File:
        """Return the file at a location, opened once however it is written."""
        if location not in self._paths:
            self._paths[location] = self._path_of(location, name)
        path = self._paths[location]
        if path not in self._files:
            self._files[path] = _File(path)
        return self._files[path]

    def _path_of(self, location: str, name: str) -> str:
        """Return the path of a file in the folder of the model. Raises FormatError if it is anywhere else."""
        model = self._model
        if not isinstance(model, FileSource):
            raise FormatError(
                f"{model.name} is an ONNX model that keeps tensor {name!r:.200} in the file {location!r:.200} beside "
                "it. Give the path of the model."
            )
        folder = os.path.realpath(os.path.dirname(model.name) or os.curdir)
        parts = [part for part in location.replace("\\", "/").split("/") if part != os.curdir]
        is_inside = all(parts) and os.pardir not in parts and "\0" not in location
        path = os.path.realpath(os.path.join(folder, *parts)) if is_inside else ""
        if not path.startswith(os.path.join(folder, "")) or os.path.splitdrive(location)[0]:
            raise FormatError(
                f"{model.name} keeps tensor {name!r:.200} in {location!r:.200}, which is not in its folder, and is not "
                "read. Copy both files into one folder."
            )
        if not os.path.exists(path):
            raise ReadError(
                f"{model.name} keeps tensor {name!r:.200} in {location!r:.200}, which is not in its folder. Copy that "
                "file there too."
            )
        if not os.path.isfile(path):
            raise ReadError(f"{model.name} keeps tensor {name!r:.200} in {location!r:.200}, which is not a file.")
        return path


def _number_in(entry: dict[str, str], key: str, default: int) -> int:
    text = entry.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise InvalidError(f"the {key} of a tensor in another file is {text!r:.200}")
    return int(text)


def _content_of(file: _File, read: Callable[[str, bytes, TensorSpec], np.ndarray]) -> Opened:
    tensors = {name: spec for (_, spec), name in file.places.items()}
    offsets = {name: offset for (offset, _), name in file.places.items()}

    def read_packed(name: str) -> np.ndarray:
        spec = tensors[name]
        return read(name, file.source.read(offsets[name], stored_bytes(spec)), spec)

    plain = {name: offset for name, offset in offsets.items() if tensors[name].dtype not in PACKED_BITS}
    return Opened(tensors, plain, read=read_packed, names=[])
