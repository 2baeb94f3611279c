"""Files of torch.save are read as torch reads them, without torch. make_golden.py made them."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    MismatchError,
    UnsupportedTypeError,
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
from statezoo.checkpoints.formats import Opened
from statezoo.checkpoints.formats.archive import Member
from statezoo.checkpoints.formats.torch.storages import Storages
from statezoo.checkpoints.formats.torch.tensors import Tensor
from statezoo.checkpoints.state.manifest import TensorSpec
from statezoo.checkpoints.storage.source import MemorySource
from statezoo.core import BatchNorm1d, Linear, Sequential

GOLDEN = Path(__file__).parent / "golden"
FLAT = ["flat-2.pt", "flat-5.pt"]
NESTED = [f"nested-{protocol}.ckpt" for protocol in (2, 3, 4, 5)]
STATES = [*FLAT, *NESTED, "big-endian.pt", "tensor.pt", "list.pt", "nothing.pt"]
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def damaged(path: Path, folder: Path, name: str) -> Path:
    """Return the path of a copy in which a bit in a member is flipped."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        (info,) = [info for info in archive.infolist() if info.filename.endswith(name)]
    start = info.header_offset
    lengths = content[start + 26 : start + 30]
    start += 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
    content[start] ^= 1
    (folder / path.name).write_bytes(content)
    return folder / path.name


@pytest.mark.parametrize("mmap", [False, True, "c"])
@pytest.mark.parametrize("file", FLAT)
def test_a_flat_state_has_its_names_and_every_dtype(file: str, mmap: Any):
    state = load_file(GOLDEN / file, mmap=mmap)
    for name in ("int8", "uint16", "uint64", "float16", "float64", "complex64", "complex128", "bfloat16"):
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        assert state[name].dtype == dtype
        np.testing.assert_array_equal(state[name], np.arange(4).astype(dtype))
    assert state["bool"].tolist() == [False, True, True, True]
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        assert state[name].dtype == np.dtype(getattr(ml_dtypes, name))
        assert state[name].view(np.uint8).tolist() == [64, 65, 66, 67]
    assert state["float4"].astype(np.float32).tolist() == [0, 0.5, 1, 1.5]
    assert (state["scalar"].shape, state["scalar"].tolist()) == ((), 7)
    assert (state["empty"].shape, state["empty"].dtype) == ((0, 3), np.float32)
    assert state["conjugate"].tolist() == [1 - 2j, -3j]
    assert state["negative"].tolist() == [-2, -3]
    assert [state[name].tolist() for name in ("parameter", "attribute", "buffer")] == [[1, 1]] * 3


@pytest.mark.parametrize("mmap", [False, True, "c"])
@pytest.mark.parametrize("file", FLAT)
def test_ties_and_views_share_memory_and_have_the_strides_of_torch(file: str, mmap: Any):
    state = load_file(GOLDEN / file, mmap=mmap)
    assert state["tied"] is state["weight"]
    np.testing.assert_array_equal(state["weight"], WEIGHT)
    assert state["turned"].base is not None
    assert np.shares_memory(state["turned"], state["weight"])
    assert (state["turned"].tolist(), state["row"].tolist()) == (WEIGHT.T.tolist(), [4, 5, 6, 7])
    assert state["turned"].strides == (4, 16)
    assert (state["alone.turned"].tolist(), state["alone.turned"].strides) == ([[0, 3], [1, 4], [2, 5]], (4, 12))
    assert state["alone.part"].tolist() == [2, 3, 4]
    assert state["overlapping.a"].tolist() == [*range(2, 10)]
    assert np.shares_memory(state["overlapping.a"], state["overlapping.b"])
    assert not np.shares_memory(state["overlapping.b"], state["apart"])
    assert (state["repeated"].tolist(), state["repeated"].strides) == ([1] * 5, (0,))
    if mmap != True:  # noqa: E712
        state["overlapping.a"][3] = 99
        assert state["overlapping.b"][0] == 99


@pytest.mark.parametrize("file", NESTED)
def test_nested_values_are_named_by_dots_and_what_is_not_an_array_is_an_extra_value(file: str):
    state = load_file(GOLDEN / file)
    assert list(state)[:7] == [
        *("state_dict.0.weight", "state_dict.0.bias", "state_dict.1.weight", "state_dict.1.bias"),
        *("state_dict.1.running_mean", "state_dict.1.running_var", "state_dict.1.num_batches_tracked"),
    ]
    assert state["state_dict.1.num_batches_tracked"].shape == ()
    assert state["optimizer.state.0.momentum_buffer"].shape == (2, 2)
    assert state["optimizer.param_groups.0.lr"] == 0.1
    assert state["optimizer.param_groups.0.params.3"] == 3
    plain = {name: state[name] for name in ("epoch", "note", "is_last", "none", "large", "dtype", "device")}
    assert plain == {
        "epoch": 3,
        "note": "größer",
        "is_last": True,
        "none": None,
        "large": 1 << 70,
        "dtype": "torch.float16",
        "device": "cuda:1",
    }
    assert type(state["is_last"]) is bool
    assert (state["size.0"], state["size.1"], state["set.0"]) == (1, 2, 5)
    assert [state[f"empty.{number}"] for number in range(5)] == [{}, [], [], {}, []]
    assert (state["dicts.0.a"], state["dicts.0.b"], state["dicts.1.a"], state["dicts.2.b"]) == (2, 1, 1, 2)
    assert state["long"] == [*range(2000)]
    assert (state["1.None"], state["1.True"], state["1.0.5"]) == (1, 2, 3)
    assert state["layer._extra_state"] == {"version": [1, 2], "name": None}


@pytest.mark.parametrize("file", NESTED)
def test_arrays_and_numbers_that_json_does_not_have_are_arrays(file: str):
    state = load_file(GOLDEN / file)
    assert (state["best"].shape, state["best"].dtype, float(state["best"])) == ((), np.float64, float("inf"))
    assert state["numbers.1"] is state["numbers.0"]
    assert (state["numbers.0"].dtype, state["numbers.0"].tolist()) == (np.dtype("<i4"), [0, 1, 2])
    assert (state["numbers.2"].dtype, state["numbers.2"].tolist()) == (np.float32, 0.5)
    assert state["numbers.3"].shape == (2, 0)
    assert state["numbers.4"].tolist() == [[1, 0], [0, 1]]
    assert state["numbers.5"].tolist() == 1j
    assert bytes(state["numbers.6"]) == b"bytes"


def test_a_file_of_a_big_endian_machine_has_the_same_values():
    state = load_file(GOLDEN / "big-endian.pt")
    assert state["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert np.shares_memory(state["turned"], state["weight"])
    assert state["part"].tolist() == [2, 4, 6]
    with open_checkpoint(GOLDEN / "big-endian.pt") as checkpoint:
        assert checkpoint["turned"][1].tolist() == [1, 4]
    assert verify(GOLDEN / "big-endian.pt").intact


def test_a_tensor_and_a_list_of_tensors_get_names():
    assert list(load_file(GOLDEN / "tensor.pt")) == ["tensor"]
    assert list(load_file(GOLDEN / "list.pt")) == ["0", "1", "2"]
    assert load_file(GOLDEN / "nothing.pt") == {}


@pytest.mark.parametrize("file", STATES)
def test_every_function_reads_the_same_state(file: str, tmp_path: Path):
    path, state = GOLDEN / file, load_file(GOLDEN / file)
    content = path.read_bytes()
    for source in (content, io.BytesIO(content)):
        assert list(load_file(source)) == list(state)
    assert read_metadata(path) == {}
    found, verified = inspect(path), verify(path)
    assert (found.format, verified.intact, found.fingerprint) == ("torch", True, None)
    assert {*found.names, *found.extra} == set(state)
    assert verified.checked == found.has_checksums == bool(found.names)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint) == list(state)
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                assert np.asarray(checkpoint[name]).tobytes() == value.tobytes()
                assert not value.ndim or checkpoint[name][1:].tobytes() == value[1:].tobytes()
                assert diff(checkpoint, checkpoint).same
            else:
                assert checkpoint[name] == value


@pytest.mark.parametrize("file", STATES)
def test_a_converted_file_has_the_same_state_and_fingerprint(file: str, tmp_path: Path):
    path, out = GOLDEN / file, tmp_path / "out.h5"
    convert(path, out)
    assert diff(path, out).same
    assert diff(out, path).same
    assert fingerprint(path) == fingerprint(out)
    state, converted = load_file(path), load_file(out)
    assert list(converted) == list(state)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert (converted[name].dtype, converted[name].shape) == (value.dtype, value.shape)
            assert converted[name].tobytes() == value.tobytes()
        else:
            assert converted[name] == value


def test_a_conversion_stores_what_a_save_of_the_loaded_arrays_stores(tmp_path: Path):
    state = load_file(GOLDEN / "flat-2.pt")
    with open_checkpoint(GOLDEN / "flat-2.pt") as checkpoint:
        state.pop("repeated")  # stays a view: its values could take far more bytes than the file
        save_file(checkpoint, tmp_path / "checkpoint.h5")
    converted = load_file(tmp_path / "checkpoint.h5")
    assert inspect(tmp_path / "checkpoint.h5").stored_bytes < 2000
    converted.pop("repeated")
    save_file(state, tmp_path / "state.h5")
    save_file(converted, tmp_path / "converted.h5")
    assert (tmp_path / "state.h5").read_bytes() == (tmp_path / "converted.h5").read_bytes()


def test_extra_values_convert_to_safetensors_and_their_names_are_any(tmp_path: Path):
    with open_checkpoint(GOLDEN / "nested-2.ckpt") as checkpoint:
        names = [name for name in checkpoint if name != "numbers.5"]  # complex128
    convert(GOLDEN / "list.pt", tmp_path / "list.safetensors")
    assert list(load_file(tmp_path / "list.safetensors")) == ["0", "1", "2"]
    convert(GOLDEN / "nested-2.ckpt", tmp_path / "x.h5")
    found = inspect(tmp_path / "x.h5")
    assert set(names) < {*found.names, *found.extra}
    assert found.extra["optimizer.param_groups.0.lr"] == 0.1
    with pytest.raises(UnsupportedTypeError, match=r"'optimizer.param_groups.0.lr' is float, not an array"):
        save_file(load_file(tmp_path / "x.h5"), tmp_path / "y.h5")


def test_a_model_loads_from_a_part_of_a_checkpoint_and_ignores_the_rest():
    model = Sequential(Linear(2, 2), BatchNorm1d(2))
    load_model(model, GOLDEN / "nested-2.ckpt", prefix="state_dict.")
    state = load_file(GOLDEN / "nested-2.ckpt")
    np.testing.assert_array_equal(model[0].weight.data, state["state_dict.0.weight"])
    np.testing.assert_array_equal(model[1].running_mean.data, state["state_dict.1.running_mean"])
    with pytest.raises(MismatchError, match=r"load_model\(model, file, prefix='state_dict.'\)"):
        load_model(model, GOLDEN / "nested-2.ckpt")


def test_what_cannot_be_read_is_listed_with_the_reason_and_does_not_hide_the_rest():
    path = GOLDEN / "unsupported.pth"
    reasons = inspect(path).unsupported
    for name, reason in {
        "sparse": r"it is a sparse tensor: save tensor.to_dense()",
        "nested": r"it is a nested tensor: save each of tensor.unbind()",
        "quantized": r"it is a quantized tensor: save tensor.dequantize()",
        "meta": r"it has no values: its device is 'meta'",
        "complex32": r"its dtype is torch.complex32, which NumPy does not have",
        "module": r"it is a pickled module of torch.nn.modules.linear.Linear, which is not looked up: save the tensors "
        "of its state: torch.save(model.state_dict(), path)",
        "path": r"it is an object of pathlib.PurePosixPath, which is not looked up: save its content as tensors, "
        "numbers and text",
        "function": r"it is the class or function torch.nn.functional.relu, which is not looked up",
        "text": r"it is a NumPy array of text, objects, records or dates",
        "objects": r"it is a NumPy array of text, objects, records or dates",
    }.items():
        assert reasons.pop(name) == reason
    assert reasons == {}
    with pytest.raises(UnsupportedTypeError, match=r"'sparse': it is a sparse tensor"):
        load_file(path)
    assert load_file(path, skip_unsupported=True)["weight"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("file", "error", "text"),
    [
        ("old.pt", CorruptError, r"a file of torch.save in its old format.*torch.save\(model.state_dict\(\), path\)"),
        (
            "module.pt",
            FormatError,
            r"does not hold tensors by name: it is a pickled module of torch.nn.modules.linear.Linear.*"
            r"torch.save\(model.state_dict\(\), path\)",
        ),
        ("script.pt", FormatError, r"is a TorchScript program, which is never run.*state_dict\(\), path\)"),
        ("without-values.pt", FormatError, r"was saved within torch.serialization.skip_data\(\)"),
    ],
)
def test_other_files_of_torch_are_an_error_that_says_how_to_save_a_state_dict(file: str, error: type, text: str):
    for read in (load_file, inspect, open_checkpoint, verify, fingerprint):
        with pytest.raises(error, match=text):
            read(GOLDEN / file)


def test_damage_is_found_in_every_way_of_reading_and_repair_saves_the_rest(tmp_path: Path):
    path = damaged(GOLDEN / "flat-2.pt", tmp_path, "/data/0")
    name = inspect(path).names[0]
    text = rf"is damaged: the bytes of these tensors are not those that were written.\n  '{name}'\n"
    for mmap in (False, True, "c"):
        with pytest.raises(CorruptError, match=text):
            load_file(path, mmap=mmap)
    with open_checkpoint(path) as checkpoint:
        for read in (
            lambda: checkpoint[name][...],
            lambda: checkpoint[name][1:2],
            lambda: [*checkpoint[name].blocks(2)],
        ):
            with pytest.raises(CorruptError, match=text):
                read()
        assert checkpoint.damaged(name)
        assert not checkpoint.damaged("weight")
        assert checkpoint["weight"][1].tolist() == [4, 5, 6, 7]
    with open_checkpoint(path, verify=False) as checkpoint:
        assert checkpoint[name][...].size == 4
    assert verify(path).damaged == (name,)
    with pytest.raises(CorruptError, match=text):
        convert(path, tmp_path / "x.h5")
    found = repair(path, tmp_path / "y.h5")
    assert found.lost == {name: "its bytes do not match their CRC-32"}
    assert found.checked
    assert list(load_file(tmp_path / "y.h5")) == [other for other in load_file(GOLDEN / "flat-2.pt") if other != name]


def test_damage_to_memory_that_has_no_name_names_what_it_holds(tmp_path: Path):
    path = GOLDEN / "flat-2.pt"
    with open_checkpoint(path) as checkpoint:
        kept = checkpoint.ties["overlapping.a"]
    path = damaged(path, tmp_path, "/" + kept.partition("[")[0])
    with pytest.raises(CorruptError, match=r"'data/\d+\[8:60\]', which holds 'overlapping.a', 'overlapping.b'\n"):
        load_file(path)
    assert verify(path).affected == {"overlapping.a": kept, "overlapping.b": kept}
    lost = repair(path, tmp_path / "y.h5").lost
    assert set(lost) == {"overlapping.a", "overlapping.b", "apart"}
    assert set(load_file(GOLDEN / "flat-2.pt")) - set(load_file(tmp_path / "y.h5")) == set(lost)


def test_memory_without_a_name_gets_one_that_no_other_tensor_has():
    members = {key: Member(key, 0, size, size, 0, True) for key, size in {"0": 24, "0[0:12]": 12}.items()}
    opened = Opened({}, {})
    pair = TensorSpec("F32", (2,))
    tensors = {
        f"{key} {offset}": Tensor(key, member.size_bytes, pair, offset, (4,))
        for key, member in members.items()
        for offset in (0, 4)
    }
    Storages(MemorySource(memoryview(bytes(24)), "x.pt"), members, False, opened).place(tensors, tensors)
    assert list(opened.tensors) == ["data/0[0:12]", "data/0[0:12]_"]
    assert [alias.kept for alias in opened.aliases.values()] == 2 * ["data/0[0:12]"] + 2 * ["data/0[0:12]_"]


def test_a_damaged_pickle_is_an_error(tmp_path: Path):
    path = damaged(GOLDEN / "flat-2.pt", tmp_path, "/data.pkl")
    with pytest.raises(CorruptError, match=r"its member 'archive/data.pkl' does not match its CRC-32"):
        load_file(path)


def test_a_file_with_another_suffix_is_recognized(tmp_path: Path):
    shutil.copy(GOLDEN / "list.pt", tmp_path / "x.safetensors")
    with pytest.raises(CorruptError, match=r"It looks like a file in the torch format. Rename it to end in .pt"):
        load_file(tmp_path / "x.safetensors")
    save_file({"a": WEIGHT}, tmp_path / "y.safetensors")
    (tmp_path / "y.safetensors").rename(tmp_path / "y.bin")
    assert load_file(tmp_path / "y.bin")["a"].tobytes() == WEIGHT.tobytes()  # as core.save writes it


def test_nothing_is_saved_in_the_format(tmp_path: Path):
    with pytest.raises(FormatError, match=r"x.pt is torch, which is read but not written.*torch.save"):
        save_file({"a": WEIGHT}, tmp_path / "x.pt")
    assert not any(tmp_path.iterdir())


def test_shards_with_an_index_of_hugging_face_are_read(tmp_path: Path):
    shutil.copy(GOLDEN / "list.pt", tmp_path / "pytorch_model-00001-of-00002.bin")
    shutil.copy(GOLDEN / "tensor.pt", tmp_path / "pytorch_model-00002-of-00002.bin")
    one, two = (f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2))
    index = f'{{"metadata": {{}}, "weight_map": {{"0": "{one}", "1": "{one}", "2": "{one}", "tensor": "{two}"}}}}'
    (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    state = load_file(tmp_path / "pytorch_model.bin.index.json")
    assert list(state) == ["0", "1", "2", "tensor"]
    assert np.shares_memory(state["0"], state["1"])
    assert state["2"].tolist() == [2, 4, 6]
    assert verify(tmp_path / "pytorch_model.bin.index.json").checked
    convert(tmp_path / "pytorch_model.bin.index.json", tmp_path / "x.safetensors")
    assert diff(tmp_path / "x.safetensors", tmp_path / "pytorch_model.bin.index.json").same


def test_torch_is_not_imported(tmp_path: Path):
    code = f"""
import sys
from statezoo.checkpoints import load_file
load_file({str(GOLDEN / "nested-5.ckpt")!r})
assert not {{"torch", "pickle"}} & set(sys.modules) - before
""".replace("import sys\n", "import sys\nimport numpy, multiprocessing\nbefore = set(sys.modules)\n", 1)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
