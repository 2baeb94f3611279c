"""What NumPy and zipfile see in our .npz files, and what is left of them after another program wrote them again."""

import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    VersionError,
    diff,
    inspect,
    load_file,
    read_metadata,
    repair,
    save_file,
    verify,
)
from statezoo.checkpoints.formats import npz
from statezoo.checkpoints.formats.npz import structure
from statezoo.checkpoints.state.digests import crc32_joined
from statezoo.checkpoints.testing import assert_roundtrip, compare_states

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
STATE: dict[str, Any] = {
    "fc.weight": WEIGHT,
    "tied": WEIGHT,
    "view": WEIGHT.T,
    "blocks/0/é": np.arange(70_000.0),
    "half": np.array([1.5, -2], ml_dtypes.bfloat16),
    "eighth": np.array([1.5, -2], ml_dtypes.float8_e4m3fn),
    "scalar": np.array(7, np.uint16),
    "empty": np.zeros((0, 3)),
    "_extra_state": {"step": 3},
}
METADATA = {"epoch": "7"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(STATE, tmp_path / "a.npz", METADATA)
    return tmp_path / "a.npz"


def rewritten(file: Path, save: Any = np.savez, **changes: Any) -> Path:
    """Return the path of a file that NumPy wrote with the arrays that it reads in another, some of them changed."""
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    save(file.with_name("again.npz"), **{name: array for name, array in arrays.items() if array is not None})
    return file.with_name("again.npz")


def test_numpy_reads_the_stored_tensors_under_their_names_and_the_index_last(file: Path):
    with np.load(file, allow_pickle=False) as archive:
        stored = ["fc.weight", "blocks/0/é", "half", "eighth", "scalar", "empty"]
        assert archive.files == [*stored, "__statezoo__"]
        for name in ("fc.weight", "blocks/0/é", "scalar", "empty"):
            assert archive[name].dtype == STATE[name].dtype
            assert np.array_equal(archive[name], STATE[name])
        assert archive["half"].view(ml_dtypes.bfloat16).tolist() == [1.5, -2]
        assert archive["eighth"].view(ml_dtypes.float8_e4m3fn).tolist() == [1.5, -2]
        assert archive["__statezoo__"].tobytes().startswith(b'{"manifest":"version=2 ')


def test_numpy_reads_every_name_of_an_expanded_file(tmp_path: Path):
    save_file(STATE, tmp_path / "a.npz", expand=True)
    with np.load(tmp_path / "a.npz") as archive:
        assert np.array_equal(archive["tied"], WEIGHT)
        assert np.array_equal(archive["view"], WEIGHT.T)
    loaded = load_file(tmp_path / "a.npz")
    assert loaded["tied"] is loaded["fc.weight"]
    assert np.shares_memory(loaded["view"], loaded["fc.weight"])


def test_zipfile_finds_stored_members_of_a_fixed_date_with_right_checksums(file: Path):
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            assert (member.date_time, member.compress_type) == ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)
    assert zipfile.ZipFile(file).namelist()[-1] == "__statezoo__.npy"


def test_the_data_of_every_member_starts_at_a_multiple_of_64(file: Path):
    content = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name_bytes, extra_bytes = struct.unpack_from("<HH", content, member.header_offset + 26)
            start = member.header_offset + 30 + name_bytes + extra_bytes
            (text_bytes,) = struct.unpack_from("<H", content, start + 8)
            assert (start + 10 + text_bytes) % 64 == 0


def test_names_that_zip_or_numpy_confuse_are_stored_under_numbers(tmp_path: Path):
    state = {name: np.full(2, n) for n, name in enumerate(["a", "a.npy", "b\0c", "d\\e", "__statezoo__", "x" * 70_000])}
    assert_roundtrip(state, [".npz"])
    save_file(state, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert archive.files == ["a", *(f"__statezoo__/{n}" for n in range(1, 6)), "__statezoo__"]
        assert archive["__statezoo__/2"].tolist() == [2, 2]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_again_keeps_its_ties_and_is_checked(file: Path, save: Any):
    again = rewritten(file, save)
    assert list(compare_states(STATE, load_file(again))) == []
    assert read_metadata(again) == METADATA
    assert (verify(again).checked, verify(again).intact) == (True, True)
    assert diff(file, again).same
    assert inspect(again).fingerprint == inspect(file).fingerprint


def test_an_archive_that_was_packed_again_in_another_order_keeps_the_order_of_its_names(file: Path):
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(file.with_name("again.npz"), "w") as again:
        again.mkdir("blocks") if hasattr(again, "mkdir") else again.writestr("blocks/", b"")
        for name in sorted(archive.namelist(), reverse=True):
            again.writestr(name, archive.read(name), zipfile.ZIP_DEFLATED)
    assert list(compare_states(STATE, load_file(file.with_name("again.npz")))) == []


def test_a_value_that_another_program_changed_is_an_error_that_names_the_tensor(file: Path):
    again = rewritten(file, scalar=np.array(8, np.uint16))
    with pytest.raises(CorruptError, match="'scalar'") as caught:
        load_file(again)
    assert caught.value.tensors == ("scalar",)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"new": np.ones(1)}, r"has the member 'new', contrary to __statezoo__"),
        ({"scalar": None}, r"has no array 'scalar' as it was written"),
        ({"scalar": np.ones(1)}, r"has no array 'scalar' as it was written"),
        ({"scalar": np.array(7, ">u2")}, r"has no array 'scalar' as it was written"),
    ],
    ids=["added", "removed", "of another shape", "of another byte order"],
)
def test_arrays_that_another_program_changed_are_an_error_that_says_what_to_do(file: Path, changes: Any, text: str):
    again = rewritten(file, **changes)
    with pytest.raises(CorruptError, match=rf"changed by another program.*{text}.*delete __statezoo__\.npy"):
        load_file(again)


def test_without_the_index_an_archive_is_an_ordinary_one(file: Path):
    again = rewritten(file, __statezoo__=None)
    assert list(load_file(again, skip_unsupported=True)) == ["fc.weight", "blocks/0/é", "scalar", "empty"]
    assert inspect(again).fingerprint is None


def test_a_file_of_more_than_4_gib_is_read_by_zipfile(tmp_path: Path):
    """Most of it is a hole: only the pieces around the tensors are written."""
    tensors = {"x": structure.TensorSpec("U8", ((4 << 30) + 5,)), "y": structure.TensorSpec("U8", (3,))}
    members = structure.placed(tensors, {})
    checksum = zlib.crc32(bytes(3), members["y"].checksum)
    with open(tmp_path / "a.npz", "wb") as file:
        for offset, piece in structure.pieces_of(b"{}".ljust(64), members, {"x": 0, "y": checksum}):
            file.seek(offset)
            file.write(piece)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert [member.file_size - 128 for member in archive.infolist()] == [(4 << 30) + 5, 3, 64]
        assert archive.read("y.npy")[-3:] == bytes(3)


def test_more_than_65_535_tensors_survive(tmp_path: Path):
    state = {str(number): np.array(number, np.int32) for number in range(65_600)}
    save_file(state, tmp_path / "a.npz", durable=False)
    assert load_file(tmp_path / "a.npz")["65599"] == 65_599
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert len(archive.namelist()) == 65_601


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 3000))
def test_the_checksum_of_two_pieces_is_that_of_both_together(first: bytes, second: bytes, zeros: int):
    second += bytes(zeros)
    found = crc32_joined(zlib.crc32(first), zlib.crc32(second), len(second))
    assert found == zlib.crc32(first + second)


def test_every_flipped_bit_outside_the_tensors_is_noticed_or_harmless(tmp_path: Path):
    state = {"w": WEIGHT, "t": WEIGHT.T, "b": np.ones(2, ml_dtypes.bfloat16)}
    save_file(state, tmp_path / "a.npz", METADATA)
    content = (tmp_path / "a.npz").read_bytes()
    loaded = 0
    for place in range(0, len(content), 3):
        data = bytearray(content)
        data[place] ^= 1 << place % 8
        try:
            found = load_file(bytes(data))
        except CheckpointError:
            continue
        loaded += 1
        assert list(compare_states(state, found)) == []
    assert loaded <= 12  # where the seal itself, or the end of the archive, is damaged


def test_a_file_cut_off_is_repaired_with_its_digests(file: Path, tmp_path: Path):
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    found = repair(file, tmp_path / "b.npz")
    assert found.checked
    assert set(found.saved) == STATE.keys()
    assert found.notes[0].startswith("it was cut off: ")
    assert (tmp_path / "b.npz").read_bytes() == content


def test_a_file_whose_index_is_damaged_is_repaired_unchecked(file: Path, tmp_path: Path):
    content = bytearray(file.read_bytes())
    content[content.index(b'{"manifest"') + 1] = 0
    file.write_bytes(content)
    found = repair(file, tmp_path / "b.npz")
    assert not found.checked
    assert set(found.saved) == {"fc.weight", "blocks/0/é", "half", "scalar", "empty"}


def test_a_foreign_archive_cut_off_is_repaired(tmp_path: Path):
    arrays = {"a": np.arange(30), "b": np.ones((3, 4)), "c": np.arange(9.0)}
    np.savez(tmp_path / "a.npz", **arrays)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: content.index(b"c.npy") + 170])
    found = repair(tmp_path / "a.npz", tmp_path / "b.npz")
    assert (found.saved, set(found.lost)) == (("a", "b"), {"c"})
    assert np.array_equal(load_file(tmp_path / "b.npz")["b"], arrays["b"])


def test_our_own_files_are_read_without_the_reader_of_foreign_ones(file: Path):
    code = """
import sys
from statezoo.checkpoints import load_file
load_file(sys.argv[1])
assert not [name for name in ("zipfile", "statezoo.checkpoints.formats.npz.listing", "h5py") if name in sys.modules]
"""
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)


def test_a_newer_version_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(npz, "VERSION", 2)
    save_file(STATE, tmp_path / "a.npz")
    for file in (tmp_path / "a.npz", rewritten(tmp_path / "a.npz")):
        with pytest.raises(VersionError, match=r"was written by a newer statezoo.*Upgrade statezoo to load it"):
            load_file(file)
