"""npz files that NumPy writes are read as NumPy reads them, whatever they hold; what harms is refused."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    UnsupportedTypeError,
    convert,
    diff,
    inspect,
    load_file,
    open_checkpoint,
    save_file,
    verify,
)

KINDS = [f"{order}{kind}" for order in "<>" for kind in ("f2", "f4", "f8", "i2", "i8", "u4", "c8", "c16")]
DTYPES = st.sampled_from([*KINDS, "?", "u1", "i1"]).map(np.dtype)
ARRAYS = DTYPES.flatmap(
    lambda dtype: numpy_strategies.arrays(dtype, numpy_strategies.array_shapes(min_dims=0, min_side=0))
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).filter(
    lambda name: name not in ("file", "")
)


def saved(arrays: dict[str, Any], save: Any = np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


def archive_of(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(text: str, data: bytes = b"", version: int = 1) -> bytes:
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode("latin-1") + data


def header(descr: str, shape: str = "(2,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, ARRAYS, max_size=4), st.booleans(), st.sampled_from([np.savez, np.savez_compressed]))
def test_arrays_are_those_that_numpy_loads(arrays: dict[str, np.ndarray], in_fortran_order: bool, save: Any):
    if in_fortran_order:
        arrays = {name: np.asfortranarray(array) for name, array in arrays.items()}
    content = saved(arrays, save)
    with np.load(io.BytesIO(content)) as archive:
        expected = {name: archive[name] for name in archive.files}
    for mmap in (False, True):
        loaded = load_file(content, mmap=mmap)
        assert list(loaded) == list(expected)
        for name, array in expected.items():
            assert (loaded[name].dtype, loaded[name].shape) == (array.dtype.newbyteorder("<"), array.shape)
            assert loaded[name].tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()
            assert loaded[name].flags.c_contiguous


def test_stored_arrays_are_mapped_and_read_in_part(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.arange(12.0).reshape(3, 4))
    mapped = load_file(tmp_path / "a.npz", mmap=True)["x"]
    assert not mapped.flags.owndata
    with open_checkpoint(tmp_path / "a.npz") as checkpoint:
        assert checkpoint["x"][1:, ::2].tolist() == [[4, 6], [8, 10]]


def test_bfloat16_is_read_as_numpy_writes_it_and_smaller_floats_are_unsupported(tmp_path: Path):
    np.savez(tmp_path / "a.npz", half=np.ones(2, ml_dtypes.bfloat16), eighth=np.ones(2, ml_dtypes.float8_e4m3fn))
    assert inspect(tmp_path / "a.npz").unsupported == {
        "eighth": "it holds a small float of ml_dtypes, and NumPy does not say which"
    }
    assert load_file(tmp_path / "a.npz", skip_unsupported=True)["half"].tolist() == [1, 1]


class Trap:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('a pickle was loaded')",)


UNSUPPORTED = {
    "objects": (np.array([Trap()], object), "it holds Python objects, which NumPy stores as a pickle"),
    "text": (np.array(["a"]), "it holds text"),
    "bytes": (np.array([b"a"]), "it holds text"),
    "dates": (np.zeros(2, "datetime64[s]"), "it holds dates"),
    "spans": (np.zeros(2, "timedelta64[s]"), "it holds spans of time"),
    "records": (np.zeros(2, [("a", "f4"), ("日本", "i4")]), "it holds records"),
    "raw": (np.zeros(2, "V3"), "its dtype is raw bytes"),
    "long double": (np.zeros(2, np.longdouble), f"its dtype is {np.dtype(np.longdouble).str!r}"),
}


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_no_checkpoint_holds_is_listed_with_the_reason_and_never_unpickled(tmp_path: Path, save: Any):
    save(tmp_path / "a.npz", good=np.ones(2), **{name: array for name, (array, _) in UNSUPPORTED.items()})
    found = inspect(tmp_path / "a.npz").unsupported
    assert found.keys() == UNSUPPORTED.keys()
    for name, (_, reason) in UNSUPPORTED.items():
        assert found[name].startswith(reason)
    with pytest.raises(UnsupportedTypeError, match=r"'objects': it holds Python objects.*never loaded"):
        load_file(tmp_path / "a.npz")
    assert list(load_file(tmp_path / "a.npz", skip_unsupported=True)) == ["good"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_in_an_array_is_found_by_its_checksum(tmp_path: Path, save: Any):
    content = bytearray(saved({"x": np.arange(100.0), "y": np.ones(5)}, save))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        end = archive.getinfo("y.npy").header_offset
    content[end - 20] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    for mmap in (False, True):
        with pytest.raises(CorruptError, match="x"):
            load_file(tmp_path / "a.npz", mmap=mmap)
    assert verify(tmp_path / "a.npz").damaged == ("x",)


def test_versions_of_the_header_and_numbers_of_python_2_are_read():
    data = struct.pack("<2f", 1, 2)
    members = {
        "one.npy": npy(header("'<f4'"), data),
        "two.npy": npy(header("'<f4'"), data, version=2),
        "three.npy": npy(header("'<f4'"), data, version=3),
        "long.npy": npy(header("'<f4'", "(2L,)"), data),
        "other order.npy": npy("{'shape': (2,), 'fortran_order': False, 'descr': '<f4'}", data),
    }
    for name, array in load_file(archive_of(members)).items():
        assert array.tolist() == [1, 2], name


def test_names_that_are_paths_stay_names_and_folders_are_skipped(tmp_path: Path):
    one = npy(header("'<f4'", "(1,)"), struct.pack("<f", 1))
    names = ["params/dense/kernel", "../../etc/passwd", "/absolute", "C:drive", ""]
    content = archive_of({"params/": b"", "params/dense/": b"", **{f"{name}.npy": one for name in names}})
    assert list(load_file(content)) == names
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.npz").write_bytes(content)
    convert(tmp_path / "in" / "a.npz", tmp_path / "in" / "b.npz")
    assert diff(tmp_path / "in" / "a.npz", tmp_path / "in" / "b.npz").same
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_members_whose_sizes_follow_their_content_are_read():
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("x.npy", npy(header("'<f4'"), struct.pack("<2f", 1, 2)))
    assert load_file(pipe.getvalue())["x"].tolist() == [1, 2]


def test_other_members_are_unsupported_and_an_archive_without_arrays_is_no_npz(tmp_path: Path):
    one = npy(header("'<f4'", "(1,)"), struct.pack("<f", 1))
    assert inspect(archive_of({"x.npy": one, "README": b"text"})).unsupported == {
        "README": "it is not an array: the name of its member does not end in .npy"
    }
    (tmp_path / "a.npz").write_bytes(archive_of({"README": b"text"}))
    with pytest.raises(CorruptError, match=r"none of its members ends in \.npy"):
        load_file(tmp_path / "a.npz")
    with pytest.raises(CorruptError, match="two of its members are named 'x'"):
        load_file(archive_of({"x.npy": one, "x": b""}))


def test_an_archive_of_no_arrays_is_an_empty_state(tmp_path: Path):
    np.savez(tmp_path / "a.npz")
    assert load_file(tmp_path / "a.npz") == load_file((tmp_path / "a.npz").read_bytes()) == {}


HEADERS = {
    "no dict": "[1, 2]",
    "too few keys": "{'descr': '<f4', 'shape': (2,)}",
    "code": "__import__('os').system('false')",
    "deep": "(" * 3000 + ")" * 3000,
    "long sum": "-" * 9000 + "1",
    "negative": header("'<f4'", "(-2,)"),
    "no tuple": header("'<f4'", "2"),
    "in brackets": header("'<f4'", "(2)"),
    "fraction": header("'<f4'", "(2.0,)"),
    "truth": header("'<f4'", "(True,)"),
    "huge": header("'<f4'", "(2, 9999999999999999999999, 0)"),
    "many axes": header("'<f4'", f"({'1, ' * 2900})"),
    "order": header("'<f4'", "(2,)", "1"),
    "no dtype": header("None"),
    "bytes": header("b'<f4'"),
    "larger": header("'<f4'", "(3,)"),
    "smaller": header("'<f4'", "(1,)"),
    "product": header("'<f4'", f"({'99999999999, ' * 800})"),
}


@pytest.mark.parametrize("text", HEADERS.values(), ids=list(HEADERS))
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_header_that_is_not_valid_is_an_error(tmp_path: Path, suffix: str, text: str):
    content = npy(text, bytes(8), version=2)
    (tmp_path / f"a{suffix}").write_bytes(archive_of({"x.npy": content}) if suffix == ".npz" else content)
    with pytest.raises(CheckpointError, match=r"a\.np[yz]"):
        load_file(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"\x93NUMPY\4\0", b"\x93NUMPY\1\0\xff\xff{", b"\x93NUMPY\2\0\xff\xff\xff\xff"]
)
def test_a_header_that_is_cut_off_or_of_an_unknown_version_is_an_error(tmp_path: Path, content: bytes):
    with pytest.raises(CorruptError, match=r"its member 'x\.npy'"):
        load_file(archive_of({"x.npy": content}))
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(CorruptError, match=r"not a valid \.npy file"):
        load_file(tmp_path / "a.npy")


def test_an_archive_that_expands_out_of_proportion_is_refused_in_little_memory(tmp_path: Path):
    content = npy(header("'|u1'", "(50331648,)"), bytes(48 << 20))
    (tmp_path / "a.npz").write_bytes(archive_of({"x.npy": content}, zipfile.ZIP_DEFLATED))
    del content
    tracemalloc.start()
    try:
        with pytest.raises(CorruptError, match=r"its compressed members expand to more than [\d,]+ bytes"):
            load_file(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_member_that_expands_to_more_than_it_says_is_refused():
    content = bytearray(archive_of({"x.npy": npy(header("'<f8'"), bytes(1 << 20))}, zipfile.ZIP_DEFLATED))
    said = len(npy(header("'<f8'"))) + 16
    struct.pack_into("<I", content, 22, said)
    struct.pack_into("<I", content, content.rindex(b"PK\1\2") + 24, said)
    with pytest.raises(CorruptError, match=r"'x\.npy' does not match its CRC-32"):
        load_file(bytes(content))


def test_members_that_share_bytes_or_occur_twice_are_refused():
    content = bytearray(saved({"a": np.ones(50), "b": np.ones(50)}))
    second = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, second + 42, 0)
    with pytest.raises(CorruptError, match="header of its member"):
        load_file(bytes(content))
    one = npy(header("'<f4'"), bytes(8))
    with pytest.raises(CorruptError, match=r"'x\.npy' occurs twice"):
        load_file(archive_of({"x.npy": one, "y.npy": one}).replace(b"y.npy", b"x.npy"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_is_an_error_or_leaves_what_was_saved(data: st.DataObject):
    save = data.draw(st.sampled_from([np.savez, np.savez_compressed]))
    arrays = {"a": np.arange(20.0), "b": np.asfortranarray(np.ones((3, 4), np.float32)), "c": np.array(3, ">i4")}
    content = bytearray(saved(arrays, save))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    try:
        loaded = load_file(bytes(content), skip_unsupported=True)
    except CheckpointError:
        return
    for name, array in arrays.items():
        if name in loaded and loaded[name].shape == array.shape and loaded[name].dtype == array.dtype:
            assert np.array_equal(loaded[name], array)


# --- .npy


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "|u1", "?"])
def test_a_npy_file_is_a_state_of_one_array(tmp_path: Path, dtype: str, order: Any):
    array = np.array(np.arange(6).reshape(2, 3), dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    for mmap in (False, True):
        loaded = load_file(tmp_path / "a.npy", mmap=mmap)
        assert list(loaded) == ["arr_0"]
        assert np.array_equal(loaded["arr_0"], array)
    np.savez(tmp_path / "b.npz", array)
    assert diff(tmp_path / "a.npy", tmp_path / "b.npz").same
    convert(tmp_path / "a.npy", tmp_path / "c.h5")
    assert diff(tmp_path / "a.npy", tmp_path / "c.h5").same


def test_a_npy_file_of_objects_is_unsupported_and_longer_or_shorter_ones_are_errors(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(UnsupportedTypeError, match=r"'arr_0': it holds Python objects"):
        load_file(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.ones(5))
    content = (tmp_path / "a.npy").read_bytes()
    for other in (content[:-1], content + b"\0"):
        (tmp_path / "a.npy").write_bytes(other)
        with pytest.raises(CorruptError, match="does not have the size that its header gives"):
            load_file(tmp_path / "a.npy")


def test_saving_to_npy_says_what_to_do(tmp_path: Path):
    with pytest.raises(
        CheckpointError, match=r"a\.npy is npy, which is read but not written.*or pass .* to numpy\.save"
    ):
        save_file({"arr_0": np.ones(2)}, tmp_path / "a.npy")
    assert not list(tmp_path.iterdir())
