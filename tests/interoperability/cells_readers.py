"""Our files, read by other libraries as plain tensors by name."""

# These libraries are in environments of their own.
# pyright: reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cells import add
from states import STATE, compared, written

TABLE = "written"
_FILES = (".safetensors", ".safetensors, expand", "shards, expand")
_GROUPS = (".h5", ".h5, expand")
_ARCHIVES = (".npz", ".npz, expand")
Read = Callable[[Path], Mapping[str, Any]]


def _add_reader(row: str, read: Read, kinds: tuple[str, ...], *packages: str, environment: str = "main") -> None:
    for kind in kinds:

        def run(folder: Path, kind: str = kind) -> str:
            path = written(folder, kind)
            files = [path] if path.exists() else sorted(folder.glob("*.safetensors"))
            return compared({name: array for file in files for name, array in read(file).items()})

        add(TABLE, row, kind, run, *packages, environment=environment)


def _safetensors_numpy(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _safetensors_torch(path: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(path)


def _safetensors_flax(path: Path) -> Mapping[str, Any]:
    from safetensors.flax import load_file

    return load_file(path)


def _mlx(path: Path) -> Mapping[str, Any]:
    import mlx.core as mx

    found = mx.load(str(path))
    assert isinstance(found, dict)
    return found


def _numpy(path: Path) -> Mapping[str, Any]:
    with np.load(path) as file:
        return dict(file)


def _jax_numpy(path: Path) -> Mapping[str, Any]:
    import jax.numpy as jnp

    archive: Any = jnp.load(path)
    with archive as file:
        return {name: jnp.asarray(file[name]) for name in file if name in STATE}


def _tinygrad(path: Path) -> Mapping[str, Any]:
    from tinygrad.nn.state import safe_load

    return {name: tensor.numpy() for name, tensor in safe_load(str(path)).items()}


def _h5py(path: Path) -> Mapping[str, Any]:
    import h5py

    with h5py.File(path) as file:
        return _datasets(file)


def _pyfive(path: Path) -> Mapping[str, Any]:
    import pyfive

    with pyfive.File(str(path)) as file:
        return _datasets(file)


def _datasets(file: Any) -> dict[str, np.ndarray]:
    """Return the datasets of an open HDF5 file by the names of tensors."""
    places = {name: name.replace(".", "/") for name in STATE}
    return {name: file[place][()] for name, place in places.items() if place in file}


_add_reader("safetensors.numpy", _safetensors_numpy, _FILES, "safetensors")
_add_reader("safetensors.torch", _safetensors_torch, _FILES, "safetensors", "torch")
_add_reader("safetensors.flax", _safetensors_flax, _FILES, "safetensors", "jax")
_add_reader("mlx.core.load", _mlx, (*_FILES, *_ARCHIVES), "mlx")
_add_reader("tinygrad", _tinygrad, _FILES, "tinygrad", environment="others")
_add_reader("numpy.load", _numpy, _ARCHIVES, "numpy")
_add_reader("jax.numpy.load", _jax_numpy, _ARCHIVES, "jax")
_add_reader("h5py", _h5py, _GROUPS, "h5py")
_add_reader("pyfive", _pyfive, _GROUPS, "pyfive", environment="others")
