"""inspect(): what it shows."""

import json
from pathlib import Path

import numpy as np
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import inspect, save_file
from statezoo.checkpoints.formats import format_named


def test_inspect_shows_names_dtypes_shapes_ties_sizes_and_metadata(path: Path):
    weight = np.zeros((3, 4), np.float32)
    state = {"a": weight, "_extra_state": {"n": 1}, "tied": weight, "view": weight.T, "b": np.zeros(2, np.int8)}
    save_file(state, path, {"epoch": "7"})
    info = inspect(path)
    assert info.names == ["a", "tied", "view", "b"]
    assert [(t.dtype, t.shape, t.size_bytes, t.shares_with, t.view) for t in info.tensors] == [
        ("F32", (3, 4), 48, None, False),
        ("F32", (3, 4), 48, "a", False),
        ("F32", (4, 3), 48, "a", True),
        ("I8", (2,), 2, None, False),
    ]
    assert (info.stored_bytes, info.file_bytes) == (50, path.stat().st_size)
    assert (info.metadata, info.extra) == ({"epoch": "7"}, {"_extra_state": {"n": 1}})
    assert info.format == format_named(path.suffix).name
    digests = [xxh3_128_hexdigest(bytes(48)), None, None, xxh3_128_hexdigest(bytes(2))]
    assert [tensor.digest for tensor in info.tensors] == digests
    assert info.fingerprint is not None
    assert len(info.fingerprint) == 32
    assert json.loads(json.dumps(info.as_dict()))["tensors"][2]["shares_with"] == "a"


def test_inspect_as_text_has_a_line_for_each_tensor_and_hides_control_characters(path: Path):
    weight = np.zeros((3, 4), np.float32)
    save_file({"a": weight, "t": weight.T, "tied": weight, "\x1b[2J": np.ones(1)}, path, {"note": "one\ntwo"})
    lines = str(inspect(path)).splitlines()
    assert lines[0].startswith(f"{path}: ")
    assert lines[1].startswith("fingerprint ")
    assert [line.split()[0] for line in lines[2:6]] == ["a", "t", "tied", r"'\x1b[2J'"]
    assert lines[2].endswith(f"  48  {xxh3_128_hexdigest(bytes(48))}")
    assert lines[3].endswith("view of a")
    assert lines[4].endswith("tied to a")
    assert lines[6] == r"metadata note: 'one\ntwo'"


def test_inspecting_an_empty_state_returns_text(path: Path):
    save_file({}, path)
    assert "0 tensors, 0 bytes" in str(inspect(path))


def test_inspecting_a_foreign_file_says_that_it_has_no_digests(tmp_path: Path):
    import safetensors.numpy

    safetensors.numpy.save_file({"x": np.ones(1)}, tmp_path / "x.safetensors")
    assert "verified: no (no digests: written by another library)" in str(inspect(tmp_path / "x.safetensors"))


def test_inspect_reads_no_tensor(path: Path):
    save_file({"x": np.ones(100_000)}, path)
    content = path.read_bytes()
    path.write_bytes(content.replace(np.ones(1000).tobytes(), bytes(8000), 1))
    assert inspect(path).names == ["x"]
