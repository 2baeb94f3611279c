"""Files of other libraries, opened by us."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cells import add, cell
from states import STATE, TIE, VIEW

from statezoo.checkpoints import CheckpointError, CorruptError, convert, diff, load_file, open_checkpoint

TABLE = "read"
ARRAYS = {name: np.array(array, order="C") for name, array in STATE.items()}
# Writes a file, and returns its path and what is in it: arrays by name, of which some are one.
Write = Callable[[Path], tuple[Path, Mapping[str, np.ndarray]]]


def _values(folder: Path, write: Write) -> str:
    path, expected = write(folder)
    for found in (load_file(path), load_file(path, mmap=True)):
        for name, array in expected.items():
            assert np.array_equal(np.asarray(found[name]), array), name
    return "yes"


def _lazily(folder: Path, write: Write) -> str:
    path, expected = write(folder)
    with open_checkpoint(path) as checkpoint:
        for name, array in expected.items():
            assert np.array_equal(checkpoint[name][...], array), name
            if array.ndim:
                assert np.array_equal(checkpoint[name][1:], array[1:]), name
    return "yes"


def _sharing(folder: Path, write: Write) -> str:
    path, expected = write(folder)
    found, pairs = load_file(path), [("embedding.weight", TIE), ("encoder.weight", VIEW)]
    kept = [np.shares_memory(found[one], found[other]) for one, other in pairs if {one, other} <= expected.keys()]
    return "yes" if kept and all(kept) else "the tie" if kept and kept[0] else "no: it is stored apart"


def _noticed(folder: Path, write: Write) -> str:
    """Flip a bit of a tensor, and load the file."""
    path, expected = write(folder)
    path = next(path.glob("*.safetensors")) if path.is_dir() else path
    content = bytearray(path.read_bytes())
    places = [content.find(np.asarray(array, order="C").tobytes()) for array in expected.values()]
    place = next((place for place in places if place >= 0), len(content) // 2)  # it may be compressed
    content[place + 1] ^= 1
    path.write_bytes(content)
    try:
        load_file(path)
    except CorruptError:
        return "yes"
    return "no: it has no checksums"


def _converted(folder: Path, write: Write) -> str:
    path, _ = write(folder)
    convert(path, folder / "converted.safetensors")
    assert diff(path, folder / "converted.safetensors").same
    return "yes"


_COLUMNS: dict[str, Callable[[Path, Write], str]] = {
    "load_file": _values,
    "a part, lazily": _lazily,
    "convert, diff": _converted,
    "ties, views": _sharing,
    "a flipped bit is noticed": _noticed,
}


def _add(row: str, write: Write, *packages: str, environment: str = "main", without: tuple[str, ...] = ()) -> None:
    for column, run in _COLUMNS.items():
        if column not in without:
            add(TABLE, row, column, lambda folder, run=run: run(folder, write), *packages, environment=environment)


# --- PyTorch


def torch_state() -> dict[str, Any]:
    """Return the state as torch tensors with the same ties and views."""
    import torch

    tensors = {name: torch.tensor(array) for name, array in ARRAYS.items() if name not in (TIE, VIEW)}
    shared = {VIEW: tensors["encoder.weight"].T, TIE: tensors["embedding.weight"]}
    return {name: {**tensors, **shared}[name] for name in STATE}


def _torch_save(folder: Path):
    import torch

    torch.save(torch_state(), folder / "model.pt")
    return folder / "model.pt", STATE


def _lightning(folder: Path):
    """Write a dict like a Lightning checkpoint: a state, an optimizer and numbers."""
    import torch

    state = torch_state()
    optimizer = torch.optim.Adam([torch.nn.Parameter(state["encoder.bias"])])
    content = {"state_dict": state, "epoch": 3, "optimizer_states": [optimizer.state_dict()]}
    torch.save(content, folder / "last.ckpt")
    assert load_file(folder / "last.ckpt")["epoch"] == 3
    return folder / "last.ckpt", {f"state_dict.{name}": array for name, array in STATE.items()}


def _safetensors_save_model(folder: Path):
    import torch
    from safetensors.torch import save_model

    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7, bias=False)
            self.embedding.weight = torch.nn.Parameter(torch.tensor(ARRAYS["embedding.weight"]))
            self.head.weight = self.embedding.weight

    save_model(Tied(), str(folder / "model.safetensors"))
    return folder / "model.safetensors", {name: STATE[name] for name in ("embedding.weight", TIE)}


_add("torch.save, .pt", _torch_save, "torch")
_add("torch.save of a Lightning checkpoint, .ckpt", _lightning, "torch", without=("ties, views",))
_add("safetensors.torch.save_model", _safetensors_save_model, "safetensors", "torch")


# --- NumPy, safetensors, MLX, HDF5


def _savez(folder: Path):
    np.savez(folder / "model.npz", **ARRAYS)  # pyright: ignore[reportArgumentType]
    return folder / "model.npz", ARRAYS


def _savez_compressed(folder: Path):
    np.savez_compressed(folder / "model.npz", **ARRAYS)  # pyright: ignore[reportArgumentType]
    return folder / "model.npz", ARRAYS


def _safetensors_numpy(folder: Path):
    from safetensors.numpy import save_file

    save_file(ARRAYS, folder / "model.safetensors")
    return folder / "model.safetensors", ARRAYS


def _safetensors_flax(folder: Path):
    import jax.numpy as jnp
    from safetensors.flax import save_file

    save_file({name: jnp.asarray(array) for name, array in ARRAYS.items()}, folder / "model.safetensors")
    return folder / "model.safetensors", ARRAYS


def _mlx_safetensors(folder: Path):
    import mlx.core as mx

    mx.save_safetensors(str(folder / "model.safetensors"), {name: mx.array(a) for name, a in ARRAYS.items()})
    return folder / "model.safetensors", ARRAYS


def _mlx_savez(folder: Path):
    import mlx.core as mx

    mx.savez(str(folder / "model.npz"), **{name: mx.array(array) for name, array in ARRAYS.items()})
    return folder / "model.npz", ARRAYS


def _h5py(folder: Path):
    import h5py

    with h5py.File(folder / "model.h5", "w") as file:
        for name, array in ARRAYS.items():
            if name != TIE:
                file[name.replace(".", "/")] = array
        file[TIE.replace(".", "/")] = file["embedding/weight"]
    return folder / "model.h5", ARRAYS


_add("numpy.savez", _savez, "numpy")
_add("numpy.savez_compressed", _savez_compressed, "numpy")
_add("safetensors.numpy", _safetensors_numpy, "safetensors")
_add("safetensors.flax", _safetensors_flax, "safetensors", "jax")
_add("mlx.core.save_safetensors", _mlx_safetensors, "mlx")
_add("mlx.core.savez", _mlx_savez, "mlx")
_add("h5py", _h5py, "h5py")


# --- GGUF and ONNX


def _gguf(folder: Path):
    from gguf import GGUFWriter

    writer = GGUFWriter(folder / "model.gguf", "test")
    for name, array in ARRAYS.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf", ARRAYS


def _onnx(folder: Path):
    import onnx

    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in ARRAYS.items()]
    graph = onnx.helper.make_graph([], "test", [], [], initializers)
    onnx.save(onnx.helper.make_model(graph), folder / "model.onnx")
    return folder / "model.onnx", ARRAYS


_add("gguf.GGUFWriter", _gguf, "gguf")
_add("onnx.save", _onnx, "onnx")


# --- transformers


def _save_pretrained(size: str) -> Write:
    def write(folder: Path):
        from cells_huggingface import gpt2

        model, _ = gpt2()
        model.save_pretrained(folder / "model", max_shard_size=size)
        state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        return folder / "model", {name: array for name, array in state.items() if name != "lm_head.weight"}

    return write


for _version in ("4", "5"):
    for _what, _size in (("", "5GB"), (", in shards", "20KB")):
        _add(
            f"save_pretrained of transformers {_version}{_what}",
            _save_pretrained(_size),
            "transformers",
            environment=f"transformers-{_version}",
            without=("ties, views",),
        )


# --- Keras


def _keras(suffix: str) -> Write:
    def write(folder: Path):
        from cells_runtimes import keras_model

        model = keras_model(1)
        path = folder / f"model{suffix}"
        (model.save_weights if suffix == ".weights.h5" else model.save)(path)
        weights = [np.asarray(variable.numpy()) for variable in model.weights]
        found = {array.tobytes(): name for name, array in load_file(path).items()}
        return path, {found[array.tobytes()]: array for array in weights}

    return write


for _backend in ("torch", "jax"):
    for _suffix in (".weights.h5", ".keras"):
        _add(
            f"Keras on {_backend}, {_suffix}",
            _keras(_suffix),
            "keras",
            _backend,
            environment=f"keras on {_backend}",
            without=("ties, views",),
        )


# --- what is not read, and the error that says what to do


def _refused(path: Path, *parts: str) -> str:
    try:
        load_file(path)
    except CheckpointError as error:
        text = str(error)
        for part in parts:
            assert part in text, text
        return "no: an error that says how"
    raise AssertionError("it was read")


@cell(TABLE, "torch.save of a whole model, a pickle", "load_file", "torch")
def _(folder: Path) -> str:
    import torch

    torch.save(torch.nn.Linear(2, 1), folder / "model.pt")
    return _refused(folder / "model.pt", "state_dict()")


@cell(TABLE, "torch.save, before version 1.6", "load_file", "torch")
def _(folder: Path) -> str:
    import torch

    torch.save(torch_state(), folder / "model.pt", _use_new_zipfile_serialization=False)
    return _refused(folder / "model.pt", "torch.load", "torch.save")


@cell(TABLE, "flax.serialization, msgpack", "load_file", "flax")
def _(folder: Path) -> str:
    from flax.serialization import to_bytes

    (folder / "model.msgpack").write_bytes(to_bytes(ARRAYS))
    return _refused(folder / "model.msgpack", "msgpack")


@cell(TABLE, "orbax.checkpoint, a folder", "load_file", "orbax-checkpoint")
def _(folder: Path) -> str:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "model", {"a": np.ones(3)})
    return _refused(folder / "model", "rbax")


@cell(TABLE, "joblib.dump", "load_file", "joblib")
def _(folder: Path) -> str:
    import joblib

    joblib.dump(ARRAYS, folder / "model.joblib")
    return _refused(folder / "model.joblib", "joblib")
