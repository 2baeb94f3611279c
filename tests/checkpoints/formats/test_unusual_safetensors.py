"""safetensors files that are valid and unusual, or break a rule without hiding a tensor."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors

from statezoo.checkpoints import (
    CorruptError,
    RulesError,
    UnsupportedTypeError,
    convert,
    inspect,
    load_file,
    load_model,
    open_checkpoint,
    read_metadata,
    repair,
    save_file,
)
from statezoo.checkpoints.testing import assert_roundtrip

GOOD = {"good": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
VALUES = np.array([1.5, -2.0], np.float32)


def write(path: Path, header: dict[str, Any] | bytes, data: bytes = VALUES.tobytes()) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def with_entry(path: Path, dtype: str, shape: list[int], data: bytes) -> Path:
    """Write a file with a good tensor and another tensor named `odd`."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [8, 8 + len(data)]}
    return write(path, GOOD | {"odd": entry}, VALUES.tobytes() + data)


# --- entries of an unknown dtype


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    return with_entry(tmp_path / "x.safetensors", "F3", [8], b"abc")


def test_load_file_refuses_an_unknown_dtype_by_name_with_advice(unknown: Path):
    with pytest.raises(UnsupportedTypeError, match=r"'odd': its dtype is 'F3'[^$]*skip_unsupported=True[^$]*repair"):
        load_file(unknown)


def test_load_file_skips_an_unknown_dtype_on_request(unknown: Path):
    assert {name: array.tolist() for name, array in load_file(unknown, skip_unsupported=True).items()} == {
        "good": [1.5, -2.0]
    }


def test_inspect_lists_an_unknown_dtype_with_the_reason(unknown: Path):
    found = inspect(unknown)
    assert (found.names, list(found.unsupported)) == (["good"], ["odd"])
    assert "odd  unsupported  its dtype is 'F3'" in str(found)


def test_an_open_checkpoint_lists_an_unknown_dtype_and_reads_the_others(unknown: Path):
    with open_checkpoint(unknown) as checkpoint:
        assert list(checkpoint) == ["good", "odd"]
        assert checkpoint["good"][...].tolist() == [1.5, -2.0]
        for read in (lambda odd: odd[...], lambda odd: odd.shape, lambda odd: odd.dtype, np.asarray):
            with pytest.raises(UnsupportedTypeError, match=r"'odd' in .* cannot be read: its dtype is 'F3'"):
                read(checkpoint["odd"])
        assert "F3" in repr(checkpoint["odd"])


def test_a_copy_never_silently_drops_a_tensor_of_unknown_dtype(unknown: Path, tmp_path: Path):
    with open_checkpoint(unknown) as checkpoint, pytest.raises(UnsupportedTypeError, match="'odd'"):
        save_file(checkpoint, tmp_path / "copy.safetensors")
    with pytest.raises(UnsupportedTypeError, match="'odd'"):
        convert(unknown, tmp_path / "copy.h5")
    assert [path.name for path in tmp_path.iterdir()] == [unknown.name]


def test_repair_saves_the_rest_and_reports_what_is_lost(unknown: Path, tmp_path: Path):
    found = repair(unknown, tmp_path / "out.safetensors")
    assert (found.saved, list(found.lost), found.complete) == (("good",), ["odd"], False)
    assert "its dtype is 'F3'" in found.lost["odd"]
    assert load_file(tmp_path / "out.safetensors")["good"].tolist() == [1.5, -2.0]


def test_load_model_refuses_or_skips_an_unknown_dtype(tmp_path: Path):
    from statezoo import core as nn

    model = nn.Linear(2, 1)
    header = {"weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
    header |= {"bias": {"dtype": "F3", "shape": [1], "data_offsets": [8, 9]}}
    path = write(tmp_path / "x.safetensors", header, VALUES.tobytes() + b"a")
    with pytest.raises(UnsupportedTypeError, match="'bias'"):
        load_model(model, path, strict=False)
    assert load_model(model, path, strict=False, skip_unsupported=True) == (["bias"], [])
    assert model.weight.data.tolist() == [[1.5, -2.0]]


def test_an_unknown_dtype_outside_the_prefix_does_not_matter(tmp_path: Path):
    from statezoo import core as nn

    header = {"model.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
    header |= {"other": {"dtype": "F3", "shape": [1], "data_offsets": [8, 9]}}
    path = write(tmp_path / "x.safetensors", header, VALUES.tobytes() + b"a")
    assert load_model(nn.Linear(2, 1, bias=False), path, prefix="model.") == ([], [])


def test_a_sharded_checkpoint_lists_an_unknown_dtype(tmp_path: Path):
    with_entry(tmp_path / "model-00001-of-00001.safetensors", "F3", [8], b"abc")
    names = dict.fromkeys(("good", "odd"), "model-00001-of-00001.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert list(inspect(tmp_path / "model.safetensors").unsupported) == ["odd"]
    assert list(load_file(tmp_path, skip_unsupported=True)) == ["good"]


def test_an_unknown_dtype_in_our_file_is_damage(tmp_path: Path):
    save_file({"a": np.ones(4, np.float32)}, path := tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"F3r"'))
    for read in (load_file, lambda path: load_file(path, skip_unsupported=True), inspect):
        with pytest.raises(CorruptError, match=r"damaged: tensor 'a': its dtype is 'F3r'"):
            read(path)


# --- elements smaller than a byte


@pytest.mark.parametrize(
    ("dtype", "bits", "numpy_name"),
    [("F4", 4, "float4_e2m1fn"), ("F6_E2M3", 6, "float6_e2m3fn"), ("F6_E3M2", 6, "float6_e3m2fn")],
)
def test_packed_elements_are_read_in_order_from_the_lowest_bits(tmp_path: Path, dtype: str, bits: int, numpy_name: str):
    codes = np.random.default_rng(0).integers(0, 1 << bits, (3, 8))
    stream = sum(int(code) << bits * place for place, code in enumerate(codes.reshape(-1)))
    path = with_entry(tmp_path / "x.safetensors", dtype, [3, 8], stream.to_bytes(3 * bits, "little"))
    assert safetensors.deserialize(path.read_bytes())  # the stock reader accepts it
    expected = codes.astype(np.uint8).view(getattr(ml_dtypes, numpy_name))
    for mmap in (False, True, "c"):
        found = load_file(path, mmap=mmap)["odd"]
        assert (found.dtype, found.shape, found.tobytes()) == (expected.dtype, (3, 8), expected.tobytes())
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["odd"][1:, ::2].tobytes() == expected[1:, ::2].tobytes()
    assert inspect(path).tensors[1].dtype == dtype


def test_a_packed_tensor_that_ends_within_a_byte_is_refused_as_by_the_stock_reader(tmp_path: Path):
    path = with_entry(tmp_path / "x.safetensors", "F4", [3], b"ab")
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(path.read_bytes())
    with pytest.raises(CorruptError, match=r"'odd' takes no whole number of bytes"):
        load_file(path)


@pytest.mark.parametrize("name", ["float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"])
def test_small_floats_survive_in_hdf5_and_are_refused_by_safetensors_with_advice(tmp_path: Path, name: str):
    state = {"x": np.arange(8, dtype=np.uint8).view(getattr(ml_dtypes, name))}
    assert_roundtrip(state, [".h5"])
    with pytest.raises(UnsupportedTypeError, match=rf"'x' is {name}.*Save to .h5, or convert it with array.astype"):
        save_file(state, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_with_packed_elements_converts_to_hdf5(tmp_path: Path):
    path = with_entry(tmp_path / "x.safetensors", "F4", [4], b"\x21\x43")
    convert(path, tmp_path / "x.h5")
    assert load_file(tmp_path / "x.h5")["odd"].view(np.uint8).tolist() == [1, 2, 3, 4]


@pytest.mark.torch
def test_we_read_the_pairs_of_float4_that_torch_writes(tmp_path: Path):
    import safetensors.torch
    import torch

    pairs = torch.tensor([[0x21, 0x43, 0x65]], dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    safetensors.torch.save_file({"x": pairs}, tmp_path / "x.safetensors")
    found = load_file(tmp_path / "x.safetensors")["x"]
    assert (found.shape, found.view(np.uint8).tolist()) == ((1, 6), [[1, 2, 3, 4, 5, 6]])


# --- headers


@pytest.mark.parametrize("space", [b" ", b"\n\t \r"], ids=repr)
def test_white_space_before_a_header_is_accepted_as_by_the_stock_reader(tmp_path: Path, space: bytes):
    path = write(tmp_path / "x.safetensors", space + json.dumps(GOOD).encode())
    assert safetensors.deserialize(path.read_bytes())
    assert load_file(path)["good"].tolist() == [1.5, -2.0]


BROKEN = {
    "a number": ({"__metadata__": {"epoch": 7, "note": "x"}}, b"", r"its metadata 'epoch' is a number, not a string"),
    "a list": ({"__metadata__": {"a": []}}, b"", r"its metadata 'a' is a list, not a string"),
    "null": ({"__metadata__": {"a": None}}, b"", r"its metadata 'a' is null, not a string"),
    "no object": ({"__metadata__": [1]}, b"", r"its metadata are a list, not an object"),
    "NUL": ({}, b"\0\0\0", r"padded with NUL characters"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_rule_that_hides_no_tensor_is_not_reported_as_damage(tmp_path: Path, kind: str):
    extra, padding, message = BROKEN[kind]
    path = write(tmp_path / "x.safetensors", json.dumps(extra | GOOD).encode() + padding)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(path.read_bytes())
    for read in (load_file, inspect, open_checkpoint, read_metadata):
        with pytest.raises(RulesError, match=rf"breaks the rules of safetensors: .*{message}.*can be read: .*repair"):
            read(path)


@pytest.mark.parametrize("kind", BROKEN)
def test_repair_keeps_the_tensors_of_a_header_that_breaks_a_rule(tmp_path: Path, kind: str):
    extra, padding, _ = BROKEN[kind]
    path = write(tmp_path / "x.safetensors", json.dumps(extra | GOOD).encode() + padding)
    found = repair(path, tmp_path / "out.safetensors")
    assert (found.saved, found.lost) == (("good",), {})
    assert len(found.notes) == 1
    assert load_file(tmp_path / "out.safetensors")["good"].tolist() == [1.5, -2.0]
    if kind == "a number":
        assert read_metadata(tmp_path / "out.safetensors") == {"epoch": "7", "note": "x"}


def test_repair_checks_our_file_with_a_number_added_to_its_metadata(tmp_path: Path):
    save_file({"a": np.ones(4, np.float32)}, path := tmp_path / "x.safetensors", {"note": "x"})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["step"] = 3
    write(path, header, content[8 + length :])
    found = repair(path, tmp_path / "out.safetensors")
    assert (found.saved, found.lost, found.checked) == (("a",), {}, True)
