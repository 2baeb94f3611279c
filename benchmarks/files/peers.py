"""What each peer does with a state. Each function sets up, untimed, and returns what can be timed.

The names of actions begin with save, load or open; "not read" marks a load that maps the bytes without reading them.
Lazy values are computed, so that every other load ends with the values in memory. State: arrays by name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from files.workers import Actions, Peer, State

LIMIT = "limit"
OURS, OURS_HDF5 = "statezoo safetensors", "statezoo hdf5"
SAFETENSORS = "safetensors.numpy"


def limit(state: State, folder: Path) -> Actions:
    """The same bytes moved by the operating system alone, without names, shapes or digests."""
    path = folder / "raw"
    size = sum(array.nbytes for array in state.values())

    def mapped() -> object:
        return np.memmap(path, np.float32, "r").sum()

    return {
        "save": lambda: _writev(list(state.values()), path, durable=False),
        "save, durable": lambda: _writev(list(state.values()), path, durable=True),
        "load": lambda: _readinto(path, size, threads=1),
        "load, 2 threads": lambda: _readinto(path, size, threads=2),
        "load, mapped": mapped,
    }


def _writev(arrays: list[np.ndarray], path: Path, durable: bool) -> None:
    most = os.sysconf("SC_IOV_MAX")
    with _descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as file:
        for start in range(0, len(arrays), most):
            _writev_all(file, [array.reshape(-1).view(np.uint8).data for array in arrays[start : start + most]])
        if durable:
            os.fsync(file)


def _writev_all(file: int, buffers: list[memoryview]) -> None:
    """Write all buffers. One system call stops at 2 GiB, within a buffer."""
    while buffers:
        count = os.writev(file, buffers)
        while buffers and count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        if buffers:
            buffers[0] = buffers[0][count:]


def _readinto(path: Path, size: int, threads: int) -> np.ndarray:
    memory = np.empty(size, np.uint8)
    bounds = [size * part // threads for part in range(threads + 1)]

    def read(file: int, start: int, stop: int) -> None:
        while start < stop:
            start += os.preadv(file, [memory.data[start:stop]], start)

    with _descriptor(path, os.O_RDONLY) as file:
        if threads == 1:  # starting a thread takes longer than reading a small state
            read(file, 0, size)
            return memory
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(functools.partial(read, file), bounds[:-1], bounds[1:]))
    return memory


@contextlib.contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    file = os.open(path, flags, 0o666)
    try:
        yield file
    finally:
        os.close(file)


def statezoo(suffix: str, state: State, folder: Path) -> Actions:
    from statezoo import checkpoints

    path = folder / f"state{suffix}"
    name = list(state)[-1]

    def open_one() -> object:
        with checkpoints.open_checkpoint(path) as file:
            return file[name][...]

    return {
        "save": lambda: checkpoints.save_file(state, path, durable=False),
        "save, durable": lambda: checkpoints.save_file(state, path),
        "load": lambda: checkpoints.load_file(path),
        "load, verify=False": lambda: checkpoints.load_file(path, verify=False),
        "load, mapped": lambda: checkpoints.load_file(path, mmap=True),
        "load, mapped, verify=False (not read)": lambda: checkpoints.load_file(path, mmap=True, verify=False),
        "open + one tensor": open_one,
    }


def safetensors_numpy(state: State, folder: Path) -> Actions:
    from safetensors.numpy import load_file, save_file

    path = folder / "state.safetensors"
    return {"save": lambda: save_file(state, path), "load": lambda: load_file(path)}


def safetensors_torch(state: State, folder: Path) -> Actions:
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "state.safetensors"
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    return {"save": lambda: save_file(tensors, path), "load, mapped (not read)": lambda: load_file(path)}


def torch_pickle(state: State, folder: Path) -> Actions:
    import torch

    path = folder / "state.pt"
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    return {
        "save": lambda: torch.save(tensors, path),
        "load": lambda: torch.load(path),
        "load, mapped (not read)": lambda: torch.load(path, mmap=True),
    }


def npz(state: State, folder: Path) -> Actions:
    path = folder / "state.npz"

    def load() -> object:
        with np.load(path) as file:
            return dict(file)

    return {"save": lambda: np.savez(path, **state), "load": load}  # pyright: ignore[reportArgumentType]


def plain_h5py(state: State, folder: Path) -> Actions:
    import h5py

    path = folder / "state.h5"

    def save() -> None:
        with h5py.File(path, "w") as file:
            for name, array in state.items():
                file[name] = array

    def load() -> object:
        with h5py.File(path) as file:
            return {name: np.asarray(file[name]) for name in file}

    return {"save": save, "load": load}


def orbax(state: State, folder: Path) -> Actions:
    logging.disable(logging.WARNING)
    checkpointer = importlib.import_module("orbax.checkpoint").PyTreeCheckpointer()
    path = folder / "state"
    return {"save": lambda: checkpointer.save(path, state), "load": lambda: checkpointer.restore(path)}


def mlx(state: State, folder: Path) -> Actions:
    mx = importlib.import_module("mlx.core")
    mx.set_default_device(mx.cpu)
    path = str(folder / "state.safetensors")
    arrays = {name: mx.array(array) for name, array in state.items()}
    mx.eval(arrays)

    def load() -> object:
        loaded = mx.load(path)
        mx.eval(loaded)
        return loaded

    return {"save": lambda: mx.save_safetensors(path, arrays), "load": load}


def tinygrad(state: State, folder: Path) -> Actions:
    tensor, files = importlib.import_module("tinygrad"), importlib.import_module("tinygrad.nn.state")
    path = str(folder / "state.safetensors")
    tensors = {name: tensor.Tensor(array, device="CPU").realize() for name, array in state.items()}
    return {
        "save": lambda: files.safe_save(tensors, path),
        "load": lambda: {name: lazy.to("CPU").realize() for name, lazy in files.safe_load(path).items()},
    }


PEERS: dict[str, Peer] = {
    LIMIT: limit,
    OURS: functools.partial(statezoo, ".safetensors"),
    OURS_HDF5: functools.partial(statezoo, ".h5"),
    SAFETENSORS: safetensors_numpy,
    "safetensors.torch": safetensors_torch,
    "torch.save": torch_pickle,
    "np.savez": npz,
    "h5py": plain_h5py,
    "orbax": orbax,
    "mlx": mlx,
    "tinygrad": tinygrad,
}
