"""ONNX models: the initializers by name, where they are in the file or in a file beside it."""

import os
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx_files import FLOATS, HOSTILE, field, model

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    MissingPackageError,
    ReadError,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
    verify,
)
from statezoo.core import Linear

pytestmark = pytest.mark.onnx
DTYPES = ["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "c8", "c16"]
DTYPES += ["bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"]
PACKED = ["float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]
INITIALIZERS: dict[str, Any] = {
    "weight": np.arange(6, dtype="f4").reshape(2, 3),
    "bias": np.arange(2, dtype="f4"),
    "scale/é": np.float64(3.5),
    "none": np.zeros((0, 3), "i8"),
}


def dtype_of(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


def model_of(*tensors: Any, **graph: Any) -> Any:
    """Return a model with these tensors as initializers."""
    import onnx

    made = onnx.helper.make_graph([], "graph", [], [], initializer=tensors, **graph)
    model = onnx.helper.make_model(made, producer_name="test")
    onnx.helper.set_model_props(model, {"epoch": "7"})
    return model


def raw(name: str, array: Any) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.asarray(array), name)


def file_of(*tensors: Any, **graph: Any) -> bytes:
    return model_of(*tensors, **graph).SerializeToString()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(file_of(*(raw(name, array) for name, array in INITIALIZERS.items())))
    return path


@pytest.mark.parametrize("mmap", [False, True, "c"])
def test_initializers_load_by_name(path: Path, mmap: Any):
    state = load_file(path, mmap=mmap)
    assert list(state) == list(INITIALIZERS)
    for name, array in INITIALIZERS.items():
        assert (state[name].dtype, state[name].shape) == (array.dtype, array.shape)
        assert state[name].tobytes() == array.tobytes()
    assert state["weight"].flags.owndata is not bool(mmap)


def test_every_tool_works(path: Path, tmp_path: Path):
    assert inspect(path).format == "onnx"
    assert read_metadata(path) == {"epoch": "7"}
    assert verify(path).intact
    assert fingerprint(path) == fingerprint(INITIALIZERS)
    assert diff(path, INITIALIZERS).same
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["weight"][1, ::2].tolist() == [3, 5]
    for name in ("a.safetensors", "a.h5"):
        convert(path, tmp_path / name)
        assert diff(path, tmp_path / name).same
    assert repair(path, tmp_path / "b.h5").complete
    assert list(load_file(path.read_bytes())) == list(INITIALIZERS)
    with path.open("rb") as file:
        assert list(load_file(file)) == list(INITIALIZERS)
    with pytest.raises(FormatError, match=r"is onnx, which is read but not written\. .* or pass a model to statezoo"):
        save_file(INITIALIZERS, path)


def test_a_model_loads_from_its_export(tmp_path: Path):
    (tmp_path / "x.onnx").write_bytes(file_of(raw("weight", np.ones((2, 3), "f4")), raw("bias", np.zeros(2, "f4"))))
    model = Linear(3, 2)
    load_model(model, tmp_path / "x.onnx")
    assert model.weight.data.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize("name", DTYPES + PACKED)
@pytest.mark.parametrize("stored", ["raw", "typed", "beside"])
@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_every_dtype_is_read_however_it_is_stored(tmp_path: Path, name: str, stored: str, count: int):
    import onnx

    dtype = dtype_of(name)
    array = (np.arange(count) % 3).astype("f4").astype(dtype)
    tensor = raw("x", array)
    if stored == "typed":
        values = array.astype("f4") if dtype.itemsize == 1 and dtype.kind == "V" else array
        tensor = onnx.helper.make_tensor("x", tensor.data_type, array.shape, values)
        assert not tensor.HasField("raw_data")
    model = model_of(raw("before", np.ones(3, "u1")), tensor, raw("after", np.ones(3, "u1")))
    if stored == "beside":
        options: Any = {"save_as_external_data": True, "location": "x.bin", "size_threshold": 0}
        onnx.save_model(model, tmp_path / "x.onnx", **options)
    else:
        onnx.save_model(model, tmp_path / "x.onnx")
    for mmap in (False, True):
        state = load_file(tmp_path / "x.onnx", mmap=mmap)
        assert list(state) == ["before", "x", "after"]
        assert (state["x"].dtype, state["x"].shape) == (dtype, (count,))
        assert state["x"].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ["INT4", "UINT4", "INT2", "UINT2", "STRING"])
def test_types_that_numpy_lacks_are_listed_with_the_reason(name: str):
    import onnx

    values: Any = ["a", "b"] if name == "STRING" else [0, 1]
    tensor = onnx.helper.make_tensor("x", onnx.TensorProto.DataType.Value(name), [2], values)
    content = file_of(tensor, raw("y", np.ones(2)))
    assert list(load_file(content, skip_unsupported=True)) == ["y"]
    reason = "it holds text" if name == "STRING" else f"its type is {name}, which this version does not support"
    assert inspect(content).unsupported == {"x": reason}


def test_sparse_and_unknown_tensors_are_unsupported():
    import onnx

    indices = onnx.helper.make_tensor("i", onnx.TensorProto.INT64, [1], [1])
    sparse = onnx.helper.make_sparse_tensor(raw("sparse", np.ones(1, "f4")), indices, [3])
    unknown, segment = raw("unknown", np.ones(1, "f4")), raw("segment", np.ones(1, "f4"))
    unknown.data_type = 99
    segment.segment.begin, segment.segment.end = 0, 1
    content = file_of(unknown, segment, raw("y", np.ones(2)), sparse_initializer=[sparse])
    assert inspect(content).unsupported == {
        "sparse": "it is a sparse tensor",
        "unknown": "its type is number 99, which the installed onnx does not know",
        "segment": "it is a segment of a larger tensor",
    }
    assert list(load_file(content, skip_unsupported=True)) == ["y"]


def test_constants_among_the_nodes_are_not_initializers():
    import onnx

    node = onnx.helper.make_node("Constant", [], ["c"], value=raw("c", np.ones(2)))
    graph = onnx.helper.make_graph([node], "graph", [], [], initializer=[raw("x", np.ones(2))])
    assert list(load_file(onnx.helper.make_model(graph).SerializeToString())) == ["x"]


def test_a_missing_package_is_an_error_with_the_command_that_installs_it(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r'not installed\. Run pip install "statezoo\[onnx\]"\.'):
        load_file(path)


def test_another_suffix_is_recognised(path: Path):
    for suffix in (".safetensors", ".h5", ".pb"):
        other = path.rename(path.with_suffix(suffix))
        with pytest.raises(
            FormatError, match=r"It looks like a file in the onnx format\. Rename it to end in \.onnx\."
        ):
            load_file(other)
        path = other
    save_file({"x": np.ones(2)}, path.with_name("x.safetensors"))
    path.with_name("x.safetensors").rename(path.with_name("y.onnx"))
    with pytest.raises(
        FormatError, match=r"is not a valid ONNX file: .* It looks like a file in the safetensors format\."
    ):
        load_file(path.with_name("y.onnx"))


# --- files beside the model


def external(tensor: Any, **entries: object) -> Any:
    """Return a tensor whose values are elsewhere."""
    import onnx

    made = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    made.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        made.external_data.add(key=key, value=str(value))
    return made


X = np.arange(4, dtype="f4")


@pytest.mark.parametrize("location", ["x.bin", "sub/x.bin", "./sub/x.bin", "sub\\x.bin"])
def test_files_in_the_folder_and_below_are_read(tmp_path: Path, location: str):
    target = tmp_path / location.replace("\\", "/")
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"12345678" + X.tobytes())
    tensors = [
        external(raw("x", X), location=location, offset=8, length=16),
        raw("y", X),
        external(raw("z", X[:2]), location=location),
    ]
    (tmp_path / "m.onnx").write_bytes(file_of(*tensors))
    state = load_file(tmp_path / "m.onnx", mmap=True)
    assert list(state) == ["x", "y", "z"]
    assert state["x"].tolist() == [0, 1, 2, 3]
    assert state["z"].tobytes() == b"12345678"
    assert not state["x"].flags.owndata
    with pytest.raises(FormatError, match=r"keeps tensor 'x' in the file .* beside it\. Give the path of the model"):
        load_file((tmp_path / "m.onnx").read_bytes())


def test_tensors_with_the_same_bytes_beside_the_model_are_ties(tmp_path: Path):
    (tmp_path / "x.bin").write_bytes(X.tobytes())
    tensors = [external(raw(name, X), location="x.bin") for name in "ba"]
    (tmp_path / "m.onnx").write_bytes(file_of(*tensors, raw("c", X)))
    state = load_file(tmp_path / "m.onnx")
    assert list(state) == ["b", "a", "c"]
    assert state["a"] is state["b"]
    convert(tmp_path / "m.onnx", tmp_path / "m.h5")
    assert diff(tmp_path / "m.onnx", tmp_path / "m.h5").same


def test_a_folder_that_is_reached_through_a_link_is_read(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.bin").write_bytes(X.tobytes())
    (tmp_path / "real" / "m.onnx").write_bytes(file_of(external(raw("x", X), location="x.bin")))
    (tmp_path / "link").symlink_to("real")
    assert load_file(tmp_path / "link" / "m.onnx")["x"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("location", "error", "text"),
    [
        ("../secret", FormatError, "which is not in its folder, and is not read"),
        ("sub/../../secret", FormatError, "which is not in its folder, and is not read"),
        ("..\\secret", FormatError, "which is not in its folder, and is not read"),
        ("/etc/passwd", FormatError, "which is not in its folder, and is not read"),
        ("link", FormatError, "which is not in its folder, and is not read"),
        ("linked/secret", FormatError, "which is not in its folder, and is not read"),
        ("x\0", FormatError, "which is not in its folder, and is not read"),
        ("", FormatError, "which is not in its folder, and is not read"),
        (".", FormatError, "which is not in its folder, and is not read"),
        ("x" * 5000, ReadError, "keeps tensor .* which is not in its folder"),
        ("missing", ReadError, "which is not in its folder. Copy that file there too"),
        ("sub", ReadError, "which is not a file"),
        ("pipe", ReadError, "which is not a file"),
    ],
)
def test_no_other_file_is_opened(tmp_path: Path, location: str, error: Any, text: str):
    (tmp_path / "secret").write_bytes(X.tobytes())
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to("../secret")
    (folder / "linked").symlink_to("..")
    os.mkfifo(folder / "pipe")
    (folder / "m.onnx").write_bytes(file_of(external(raw("x", X), location=location)))
    for read in (load_file, inspect, verify):
        with pytest.raises(error, match=text):
            read(folder / "m.onnx")


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"offset": -4}, "the offset of a tensor in another file is '-4'"),
        ({"offset": "four"}, "the offset of a tensor in another file is 'four'"),
        ({"offset": "9" * 5000}, "the offset of a tensor in another file is '999"),
        ({"offset": 4}, "tensor 'x' reaches beyond the end of"),
        ({"offset": 1 << 62}, "tensor 'x' reaches beyond the end of"),
        ({"length": 15}, "tensor 'x' takes 16 bytes, and the file says 15"),
        ({"length": "²"}, "the length of a tensor in another file is"),
    ],
)
def test_places_that_are_not_in_the_file_are_errors(tmp_path: Path, entries: dict[str, Any], text: str):
    (tmp_path / "x.bin").write_bytes(X.tobytes())
    (tmp_path / "m.onnx").write_bytes(file_of(external(raw("x", X), location="x.bin", **entries)))
    with pytest.raises(CorruptError, match=text):
        load_file(tmp_path / "m.onnx")


def test_a_file_with_several_spellings_is_opened_once(tmp_path: Path):
    (tmp_path / "x.bin").write_bytes(bytes(40))
    tensors = [external(raw(f"x{n}", X), location="./" * n + "x.bin", offset=n) for n in range(24)]
    (tmp_path / "m.onnx").write_bytes(file_of(*tensors))
    with pytest.raises(CorruptError, match="'x2' has bytes that belong to another tensor"):
        load_file(tmp_path / "m.onnx")


def test_tensors_that_overlap_beside_the_model_take_no_more_memory_than_the_file(tmp_path: Path):
    (tmp_path / "x.bin").write_bytes(bytes(40))
    tensors = [external(raw(f"x{place}", X), location="x.bin", offset=place) for place in range(24)]
    (tmp_path / "m.onnx").write_bytes(file_of(*tensors))
    with pytest.raises(CorruptError, match="'x2' has bytes that belong to another tensor"):
        load_file(tmp_path / "m.onnx")


# --- hostile files


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_an_error(tmp_path: Path, kind: str):
    content, reason = HOSTILE[kind]
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(CorruptError, match=reason):
        load_file(tmp_path / "x.onnx")


def test_an_empty_tensor_of_a_huge_length_is_an_error():
    with pytest.raises(FormatError, match="shape that NumPy cannot hold"):
        load_file(model(FLOATS + field(1, (1 << 63) - 1) * 2 + field(1, 0)))


def test_every_cut_of_a_file_is_an_error(path: Path):
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            state = load_file(path)
        except CorruptError:
            continue
        assert list(state) == list(INITIALIZERS)  # only the metadata was cut off


def test_random_damage_is_an_error_or_other_values(path: Path):
    content, generator = path.read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(content)
        for place in generator.integers(len(content), size=generator.integers(1, 4)):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            load_file(path, skip_unsupported=True)
        except (FormatError, ReadError):
            continue
