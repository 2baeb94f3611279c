"""Checkpoints of other frameworks that are not read: what they are, and how to save them again as a file that is."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import NamedTuple

from ..storage.source import Source

_HEAD_BYTES = 512
_TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # of a table of LevelDB, in which TensorFlow lists its variables
_TENSORFLOW_DATA = re.compile(r"(.+)\.(?:index|data-\d{5}-of-\d{5})", re.DOTALL)
_PICKLE = "It is a pickle, which can run any code. If you trust it, these"


class Kind(NamedTuple):
    """A kind of checkpoint. what: a noun phrase. code: lines of Python with `PATH`. start: the words before them."""

    what: str
    code: str
    start: str = "These"

    def text(self, path: str) -> str:
        """Return the end of a sentence that starts with the path, and the lines."""
        lines = "".join(f"\n    {line}" for line in self.code.replace("PATH", repr(path)).split("\n"))
        return f"is {self.what}, which is not read. {self.start} lines save it as a file that is:{lines}"


_SAVE_FILE = "from statezoo.checkpoints import save_file\n"
_SAVE_MODEL = "from statezoo.checkpoints import save_model\n"
_TENSORFLOW = (
    "import tensorflow as tf\nfrom statezoo.checkpoints import save_file\nreader = tf.train.load_checkpoint(PATH)\n"
    "names = [name for name, dtype in reader.get_variable_to_dtype_map().items() if dtype != tf.string]\n"
    'save_file({name: reader.get_tensor(name) for name in names}, "model.safetensors")'
)

_FLAX = Kind(
    "a checkpoint of flax (msgpack)",
    f"from flax.serialization import msgpack_restore\n{_SAVE_MODEL}"
    'save_model(msgpack_restore(open(PATH, "rb").read()), "model.safetensors")',
)
_ORBAX = Kind(
    "a checkpoint of Orbax",
    f"import orbax.checkpoint\n{_SAVE_MODEL}state = orbax.checkpoint.PyTreeCheckpointer().restore(PATH)\n"
    'save_model(state, "model.safetensors")',
)
_SAVED_MODEL = Kind("a SavedModel of TensorFlow", _TENSORFLOW.replace("(PATH)", '(PATH + "/variables/variables")'))
_TF_CHECKPOINT = Kind("a checkpoint of TensorFlow", _TENSORFLOW)
_MATLAB = Kind(
    "a MATLAB file",
    f"import scipy.io\n{_SAVE_FILE}state = scipy.io.loadmat(PATH)\n"
    'save_file({name: state[name] for name, *_ in scipy.io.whosmat(PATH)}, "model.safetensors")',
)
_MATLAB_73 = Kind(
    "a MATLAB 7.3 file (HDF5 with reversed axes)",
    f"import h5py\n{_SAVE_FILE}with h5py.File(PATH) as file:\n"
    "    arrays = {name: item[()].T for name, item in file.items() if isinstance(item, h5py.Dataset)}\n"
    'save_file(arrays, "model.safetensors")',
)
_JOBLIB = Kind(
    "a file of joblib",
    f'import joblib\n{_SAVE_MODEL}save_model(joblib.load(PATH), "model.safetensors")  # a dict of arrays',
    _PICKLE,
)
_PADDLE = Kind(
    "a checkpoint of PaddlePaddle",
    f"import paddle\n{_SAVE_FILE}state = paddle.load(PATH)\n"
    'save_file({name: tensor.numpy() for name, tensor in state.items()}, "model.safetensors")',
    _PICKLE,
)
_TFLITE = Kind(
    "a model of TensorFlow Lite",
    'import tf2onnx\ntf2onnx.convert.from_tflite(PATH, output_path="model.onnx")',
)
_CORE_ML = Kind(
    "a Core ML model",
    f"import coremltools as ct\n{_SAVE_FILE}"
    "weights = ct.optimize.coreml.get_weights_metadata(ct.models.MLModel(PATH), weight_threshold=0)\n"
    'save_file({name: weight.val for name, weight in weights.items()}, "model.safetensors")',
)
_TORCH_PARTS = Kind(
    "a distributed checkpoint of PyTorch",
    'from torch.distributed.checkpoint.format_utils import dcp_to_torch_save\ndcp_to_torch_save(PATH, "model.pt")',
)
_ZARR = Kind(
    "a Zarr store",
    f"import zarr\n{_SAVE_FILE}group = zarr.open_group(PATH, mode='r')\n"
    'save_file({name: array[...] for name, array in group.arrays()}, "model.safetensors")',
)
_GGML = Kind(
    "a GGML file from before GGUF",
    "# in a checkout of llama.cpp\nimport subprocess, sys\n"
    'command = [sys.executable, "convert_llama_ggml_to_gguf.py", "--input", PATH, "--output", "model.gguf"]\n'
    "subprocess.run(command, check=True)",
)

_SIGNS = (
    # A map whose first key is a text that starts with a visible character.
    (rb"([\x81-\x8f]|\xde..|\xdf....)([\xa1-\xbf]|\xd9.|\xda..)[\x20-\x7e]", _FLAX),
    (rb"MATLAB 7\.3 MAT-file", _MATLAB_73),
    (rb"MATLAB 5\.0 MAT-file", _MATLAB),
    (rb"\x80[\x02-\x05].{0,200}joblib\.numpy_pickle", _JOBLIB),
    (rb".{4}TFL3", _TFLITE),
    (rb"lmgg|fmgg|tjgg", _GGML),
)
_PATTERNS = [(re.compile(pattern, re.DOTALL), kind) for pattern, kind in _SIGNS]
_SUFFIXES = {
    ".msgpack": _FLAX, ".mat": _MATLAB, ".joblib": _JOBLIB, ".pdparams": _PADDLE, ".pdopt": _PADDLE,
    ".tflite": _TFLITE, ".mlmodel": _CORE_ML, ".mlpackage": _CORE_ML, ".mlmodelc": _CORE_ML,
}  # fmt: skip
# What a folder holds, any of them.
_FOLDERS = (
    ({"saved_model.pb", "saved_model.pbtxt"}, _SAVED_MODEL),
    ({".metadata"}, _TORCH_PARTS),
    ({"zarr.json", ".zgroup", ".zarray"}, _ZARR),
    ({"checkpoint"}, _TF_CHECKPOINT),
)


def text_by_content(source: Source) -> str | None:
    """Return what a file is, and how to save it again, judging by its content; None if it is not of a known kind."""
    size_bytes = source.size_bytes
    head = source.read(0, min(_HEAD_BYTES, size_bytes))
    if head.startswith(b"model_checkpoint_path:"):
        return _TF_CHECKPOINT.text(os.path.dirname(source.name) or os.curdir)
    if size_bytes > len(_TABLE_END) and source.read(size_bytes - len(_TABLE_END), len(_TABLE_END)) == _TABLE_END:
        return _TF_CHECKPOINT.text(source.name.removesuffix(".index"))
    return next((kind.text(source.name) for pattern, kind in _PATTERNS if pattern.match(head)), None)


def text_by_name(path: str) -> str | None:
    """Return what a file or a folder is, and how to save it again, judging by its name; None if that does not say."""
    kind = _SUFFIXES.get(os.path.splitext(path.rstrip(os.sep))[1].lower())
    if kind is not None:
        return kind.text(path)
    parts = _TENSORFLOW_DATA.fullmatch(path)
    return _TF_CHECKPOINT.text(parts[1]) if parts and os.path.lexists(f"{parts[1]}.index") else None


def text_by_members(folder: str, names: Collection[str]) -> str | None:
    """Return what a folder is, and how to save it again, judging by the names in it; None if these do not say."""
    kind = next((kind for members, kind in _FOLDERS if not members.isdisjoint(names)), None)
    if kind is not None:
        return kind.text(folder)
    orbax = _orbax_in(folder, names)
    return text_by_name(folder) if orbax is None else _ORBAX.text(orbax)


def _orbax_in(folder: str, names: Collection[str]) -> str | None:
    """Return the folder of the arrays of Orbax: `folder`, an item of it, or an item of the last step in it; or None."""
    if not {"manifest.ocdbt", "_METADATA"}.isdisjoint(names):
        return folder
    steps = sorted((name for name in names if name.isdecimal()), key=lambda name: (len(name), name))
    if not steps and "_CHECKPOINT_METADATA" not in names:
        return None
    step = os.path.join(folder, steps[-1]) if steps else folder
    try:
        items = [step, *(os.path.join(step, item) for item in sorted(os.listdir(step)))]
    except OSError:
        return None
    return next((item for item in items if os.path.isfile(os.path.join(item, "_METADATA"))), None)


def text_of_parts(path: str) -> str | None:
    """Return what the files are whose names start with `path`, if TensorFlow wrote them; else None."""
    return _TF_CHECKPOINT.text(path) if os.path.isfile(f"{path}.index") else None
