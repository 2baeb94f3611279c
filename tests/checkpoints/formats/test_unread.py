"""Checkpoints that are not read: the error says what they are, and its lines write a file that is read."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from statezoo.checkpoints import CheckpointError, FormatError, inspect, load_file, open_checkpoint, save_file

X = np.arange(6, dtype="f4").reshape(2, 3)
FLAX = b"\x81\xa6params\x81\xa5dense\x81\xa6kernel\xc7\x26\x01\x93\x92\x02\x03\xa7float32\xc4\x18" + X.tobytes()
MAT_5 = b"MATLAB 5.0 MAT-file Platform: posix, Created on: Sat Nov 28 15:24:02 2026".ljust(124) + b"\x00\x01IM"
MAT_73 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
JOBLIB = b"\x80\x04\x95\xd7\0\0\0\0\0\0\0}\x94\x8c\x01x\x94\x8c\x13joblib.numpy_pickle\x94\x8c\x11NumpyArray"
TABLE = bytes(100) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"

# Files by path, each with the start of its content; the path that is opened; what the error says, and its last line.
HEADS: dict[str, tuple[dict[str, bytes], str, str, str]] = {
    "flax": ({"a.msgpack": FLAX}, "a.msgpack", "a checkpoint of flax (msgpack)", "save_model(msgpack_restore"),
    "flax by content": ({"a.bytes": FLAX}, "a.bytes", "a checkpoint of flax (msgpack)", "save_model(msgpack_restore"),
    "flax as safetensors": ({"a.safetensors": FLAX}, "a.safetensors", "flax (msgpack)", "save_model(msgpack_restore"),
    "MATLAB 5": ({"a.mat": MAT_5}, "a.mat", "a MATLAB file", "scipy.io.whosmat("),
    "MATLAB 5 as h5": ({"a.h5": MAT_5}, "a.h5", "a MATLAB file", "scipy.io.whosmat("),
    "MATLAB 7.3": ({"a.mat": MAT_73}, "a.mat", "a MATLAB 7.3 file (HDF5 with reversed axes)", "save_file(arrays"),
    "MATLAB 4": ({"a.mat": bytes(3) + b"\x01" * 40}, "a.mat", "a MATLAB file", "scipy.io.whosmat("),
    "joblib": ({"a.pkl": JOBLIB}, "a.pkl", "a file of joblib", "save_model(joblib.load("),
    "joblib, compressed": ({"a.joblib": b"x^k`\x99z\x9d"}, "a.joblib", "a file of joblib", "save_model(joblib.load("),
    "PaddlePaddle": ({"a.pdparams": b"\x80\x04}\x94."}, "a.pdparams", "a checkpoint of PaddlePaddle", "tensor.numpy()"),
    "TensorFlow Lite": ({"a.tflite": b"\x1c\0\0\0TFL3\x14\0"}, "a.tflite", "a model of TensorFlow Lite", "from_tfl"),
    "Lite by content": ({"a.x": b"\x1c\0\0\0TFL3\x14\0"}, "a.x", "a model of TensorFlow Lite", "from_tfl"),
    "GGML": ({"a.ggml": b"tjgg\1\0\0\0"}, "a.ggml", "a GGML file from before GGUF", "subprocess.run("),
    "Core ML": ({"a.mlmodel": b"\x08\x04\x12\x10"}, "a.mlmodel", "a Core ML model", "weight.val"),
    "a Core ML package": ({"a.mlpackage/Manifest.json": b"{}"}, "a.mlpackage", "a Core ML model", "weight.val"),
    "an index of TensorFlow": ({"m.index": TABLE}, "m.index", "a checkpoint of TensorFlow", "reader.get_tensor(name)"),
    "data of TensorFlow": (
        {"m.index": TABLE, "m.data-00000-of-00001": bytes(9)}, "m.data-00000-of-00001", "a checkpoint of TensorFlow",
        "reader.get_tensor(name)",
    ),
    "the name of a TensorFlow checkpoint": (
        {"m.ckpt.index": TABLE, "m.ckpt.data-00000-of-00001": bytes(9)}, "m.ckpt", "a checkpoint of TensorFlow",
        "reader.get_tensor(name)",
    ),
    "a folder of TensorFlow": (
        {"f/checkpoint": b'model_checkpoint_path: "m"\n', "f/m.index": TABLE}, "f", "a checkpoint of TensorFlow",
        "reader.get_tensor(name)",
    ),
    "the list of TensorFlow": (
        {"f/checkpoint": b'model_checkpoint_path: "m"\n'}, "f/checkpoint", "a checkpoint of TensorFlow", "get_tensor(",
    ),
    "a SavedModel": (
        {"f/saved_model.pb": b"\x08\x01", "f/variables/variables.index": TABLE}, "f", "a SavedModel of TensorFlow",
        "reader.get_tensor(name)",
    ),
    "Orbax": ({"f/_METADATA": b"{}", "f/manifest.ocdbt": b"\x0c"}, "f", "a checkpoint of Orbax", "save_model(state"),
    "a step of Orbax": (
        {"f/_CHECKPOINT_METADATA": b"{}", "f/default/_METADATA": b"{}"}, "f", "a checkpoint of Orbax", "save_model(",
    ),
    "a distributed checkpoint": (
        {"f/.metadata": b"\x80\x04", "f/__0_0.distcp": b"PK"}, "f", "a distributed checkpoint of PyTorch", "dcp_to",
    ),
    "Zarr": ({"f/zarr.json": b"{}"}, "f", "a Zarr store", "group.arrays()"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_the_error_says_what_it_is_and_gives_lines_that_save_it_again(tmp_path: Path, kind: str):
    files, opened, what, line = HEADS[kind]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for read in (load_file, inspect, open_checkpoint):
        with pytest.raises(FormatError) as caught:
            read(tmp_path / opened)
        assert f"{what}, which is not read." in str(caught.value)
        assert line in str(caught.value).splitlines()[-1]
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".msgpack", ".joblib", ".mat", ".tflite"])
def test_content_that_is_known_counts_more_than_the_suffix(tmp_path: Path, suffix: str):
    path = tmp_path / f"a{suffix}"
    for content, text in ((b"version https://git-lfs", "a Git LFS pointer"), (b"<html>", "an HTML"), (b"", "is empty")):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=text):
            load_file(path)
    save_file({"x": X}, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(path)
    with pytest.raises(
        FormatError, match=r"It looks like a file in the safetensors format\. Rename it to end in \.safetensors\."
    ):
        load_file(path)


def test_a_checkpoint_that_is_read_counts_more_than_what_is_beside_it(tmp_path: Path):
    save_file({"x": X}, tmp_path / "a.safetensors")
    (tmp_path / "checkpoint").write_bytes(b"model_checkpoint_path")
    assert load_file(tmp_path)["x"].tolist() == X.tolist()


def test_a_name_with_quotes_and_control_characters_stays_one_string(tmp_path: Path):
    path = tmp_path / "a'\"\n\x1b.msgpack"
    path.write_bytes(FLAX)
    with pytest.raises(FormatError) as caught:
        load_file(path)
    code = lines_of(caught.value)
    assert repr(str(path)) in code
    compile(code, "code", "exec")


def lines_of(error: BaseException) -> str:
    """Return the lines of Python at the end of an error."""
    return textwrap.dedent("\n".join(line for line in str(error).splitlines() if line.startswith("    ")))


# --- the lines, run with the real package


def _flax(folder: Path) -> Path:
    serialization = pytest.importorskip("flax.serialization")
    (folder / "a.msgpack").write_bytes(serialization.to_bytes({"layer": {"x": X}}))
    return folder / "a.msgpack"


def _orbax(folder: Path) -> Path:
    orbax = pytest.importorskip("orbax.checkpoint")
    orbax.PyTreeCheckpointer().save(folder / "orbax", {"layer": {"x": X}})
    return folder / "orbax"


def _orbax_steps(folder: Path) -> Path:
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.CheckpointManager(folder / "steps") as manager:
        for step in (9, 10):
            manager.save(step, args=orbax.args.StandardSave({"layer": {"x": X * (step - 9)}}))
    return folder / "steps"


def _matlab_5(folder: Path) -> Path:
    pytest.importorskip("scipy.io").savemat(folder / "a.mat", {"layer.x": X, "t": "text"}, long_field_names=True)
    pytest.importorskip("scipy.io").savemat(folder / "a.mat", {"x": X})
    return folder / "a.mat"


def _matlab_73(folder: Path) -> Path:
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        file["x"] = X.T
    with open(folder / "a.mat", "r+b") as file:
        file.write(MAT_73)
    return folder / "a.mat"


def _joblib(folder: Path) -> Path:
    pytest.importorskip("joblib").dump({"layer": {"x": X}}, folder / "a.joblib", compress=3)
    return folder / "a.joblib"


def _distributed(folder: Path) -> Path:
    torch = pytest.importorskip("torch")
    distributed = pytest.importorskip("torch.distributed.checkpoint")
    distributed.save({"x": torch.tensor(X)}, checkpoint_id=folder / "parts")
    return folder / "parts"


MAKERS: list[Callable[[Path], Path]] = [_flax, _orbax, _orbax_steps, _matlab_5, _matlab_73, _joblib, _distributed]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__.strip("_"))
def test_the_lines_of_the_error_write_a_file_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
):
    path = make(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        load_file(path)
    scope: dict[str, Any] = {}
    exec(lines_of(caught.value), scope)
    written = next(name for name in ("model.safetensors", "model.pt") if os.path.exists(name))
    state = load_file(written)
    (array,) = state.values()
    assert np.asarray(array).tolist() == X.tolist()
