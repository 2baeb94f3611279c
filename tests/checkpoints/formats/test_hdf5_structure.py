"""The HDF5 structure that we write ourselves, compared with libhdf5, and the checks of its digest and index."""

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from struct import unpack_from
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from h5py import h5o, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import CorruptError, VersionError, load_file, save_file
from statezoo.checkpoints.formats import hdf5
from statezoo.checkpoints.formats.hdf5.structure.names import paths_of
from statezoo.checkpoints.state import dtypes
from statezoo.checkpoints.state.manifest import TensorSpec
from statezoo.checkpoints.state.sharing import Alias
from statezoo.checkpoints.storage.source import source_of

FOOTER_BYTES = 115


def file_of(tensors: Mapping[str, TensorSpec], ties: Mapping[str, str] | None = None) -> bytearray:
    """Return a file with these tensors, whose data byte n is n % 251, and ties (name -> kept name)."""
    aliases = {name: Alias(kept) for name, kept in (ties or {}).items()}
    layout = hdf5.lay_out(tensors, aliases, {"key": "é"}, "0" * 9)
    (_, structure), (tail_offset, tail) = layout.seal("123456789")
    data_bytes = sum(tensor.size_bytes for tensor in tensors.values())
    assert tail_offset == len(structure) + data_bytes
    return bytearray(structure + bytes(n % 251 for n in range(data_bytes)) + tail)


def opened_of(file: bytes | bytearray) -> Any:
    return hdf5.open_source(source_of(bytes(file)))


def in_h5py(file: bytes | bytearray) -> h5py.File:
    return h5py.File(io.BytesIO(file), "r")


def bytes_in_h5py(dataset: Any) -> bytes:
    """Return the bytes of a dataset as libhdf5 finds them, without conversion."""
    buffer = np.zeros(dataset.size * dataset.dtype.itemsize, np.uint8)
    dataset.id.read(h5s.ALL, h5s.ALL, buffer, mtype=dataset.id.get_type())
    return buffer.tobytes()


# --- what libhdf5 finds

NAMES = st.lists(
    st.sampled_from(["a", "b", "é", "", "%", "/", "0", "__statezoo__", "long" * 9]), min_size=1, max_size=4
)
TENSORS = st.builds(
    TensorSpec, st.sampled_from(sorted(dtypes.ITEM_BYTES)), st.lists(st.integers(0, 4), max_size=4).map(tuple)
)


@settings(deadline=None)
@given(tensors=st.dictionaries(NAMES.map(".".join), TENSORS, max_size=30), data=st.data())
def test_libhdf5_finds_the_datasets_and_hard_links_as_laid_out(tensors: dict[str, TensorSpec], data: st.DataObject):
    free = NAMES.map(".".join).filter(lambda name: name not in tensors)
    ties = data.draw(st.dictionaries(free, st.sampled_from(list(tensors)), max_size=4)) if tensors else {}
    file = file_of(tensors, ties)
    opened = opened_of(file)
    assert (opened.tensors, opened.manifest, opened.metadata) == (tensors, "123456789", {"key": "é"})
    assert list(opened.tensors) == list(tensors)
    paths = {name: "/" + b"/".join(path).decode() for name, path in paths_of([*tensors, *ties]).items()}
    with in_h5py(file) as seen:
        found: list[str] = []
        seen.visititems_links(lambda name, _: found.append(name))
        datasets = {f"/{name}" for name in found if isinstance(seen[name], h5py.Dataset)}
        assert datasets == {*paths.values(), "/__statezoo__"}
        for name, tensor in tensors.items():
            dataset: Any = seen[paths[name]]
            assert dataset.shape == tensor.shape
            assert dataset.id.get_offset() == (opened.offsets[name] if tensor.size_bytes else None)
            start = opened.offsets[name]
            assert bytes_in_h5py(dataset) == file[start : start + tensor.size_bytes]
            tied = [other for other, kept in ties.items() if kept == name]
            assert all(seen[paths[other]] == dataset for other in tied)
            assert h5o.get_info(dataset.id).rc == 1 + len(tied)


@pytest.mark.parametrize("dtype", dtypes.ITEM_BYTES)
def test_each_dtype_is_written_as_the_datatype_that_h5py_uses(dtype: str):
    with in_h5py(file_of({"x": TensorSpec(dtype, (2,))})) as seen:
        dataset: Any = seen["x"]
        opaque = dtypes.ML_DTYPES.get(dtype)
        expected = np.dtype(f"V{dtypes.ITEM_BYTES[dtype]}") if opaque else dtypes.numpy_dtype(dtype)
        assert dataset.id.get_type().equal(h5t.py_create(expected, logical=True))
        assert dataset.dtype == expected
        assert dict(dataset.attrs) == ({"dtype": opaque.encode()} if opaque else {})


# One node of links, several, and one, two or three levels of the tree above them.
SIZES = [1, 4, 5, 31, 32, 33, 255, 256, 257, 2049, 20_000]


@pytest.mark.parametrize("size", SIZES)
def test_libhdf5_finds_every_link_of_a_group_of_any_size(size: int):
    names = [f"group.{number * 7919 % size}{'x' * (number % 11)}" for number in range(size)]
    tensors = {name: TensorSpec("U8", (number % 3 + 1,)) for number, name in enumerate(names)}
    with in_h5py(file_of(tensors)) as seen:
        group: Any = seen["group"]
        assert list(group) == sorted(name.removeprefix("group.") for name in names)
        for name in names[:: 1 + size // 500]:
            assert group[name.removeprefix("group.")].shape == tensors[name].shape
        assert "absent" not in group


UNDEFINED = (1 << 64) - 1


def levels_of_root(file: bytes) -> list[list[tuple[int, int, int, list[int]]]]:
    """Return the nodes of the root group's B-tree, lowest level first: address, left, right, keys and children."""
    (address,) = unpack_from("<Q", file, 80)
    levels = []
    while True:
        level, height = [], 0
        while address != UNDEFINED:
            signature, kind, height, count, left, right = unpack_from("<4sBBHQQ", file, address)
            assert (signature, kind) == (b"TREE", 0)
            level.append((address, left, right, list(unpack_from(f"<{2 * count + 1}Q", file, address + 24))))
            address = right
        levels.insert(0, level)
        address = level[0][3][1]
        if height == 0:
            return levels


# libhdf5 only compares some of the keys, and does not follow the siblings.
@pytest.mark.parametrize("size", [1, 3, 4, 31, 32, 255, 256, 2048])
def test_the_nodes_of_a_tree_are_linked_and_their_keys_bound_the_names_below_them(size: int):
    file = bytes(file_of({f"{number:04}": TensorSpec("U8", (1,)) for number in range(size)}))
    (heap,) = unpack_from("<Q", file, 88)
    (names,) = unpack_from("<Q", file, heap + 24)

    def name_at(place: int) -> str:
        return file[names + place : file.index(b"\0", names + place)].decode()

    levels = levels_of_root(file)
    below = []
    for address in (child for _, _, _, fields in levels[0] for child in fields[1::2]):
        signature, count = unpack_from("<4s2xH", file, address)
        assert signature == b"SNOD"
        below.append((address, name_at(unpack_from("<Q", file, address + 8 + 40 * (count - 1))[0])))
    assert below[-1][1] == "__statezoo__"
    for level in levels:
        assert [left for _, left, _, _ in level] == [UNDEFINED, *(node[0] for node in level[:-1])]
        keys = [[name_at(place) for place in fields[::2]] for _, _, _, fields in level]
        children = [fields[1::2] for _, _, _, fields in level]
        assert [child for some in children for child in some] == [address for address, _ in below]
        assert [key for some in keys for key in some[1:]] == [last for _, last in below]
        assert [some[0] for some in keys] == ["", *(some[-1] for some in keys[:-1])]
        below = [(node[0], some[-1]) for node, some in zip(level, keys, strict=True)]
    assert len(below) == 1


def links_of(file: bytes, tree: int, heap: int, path: str = "") -> dict[str, tuple[int, int, int]]:
    """Return what the link to each object below a group caches: its kind, and where a group's tree and heap are."""
    (names,) = unpack_from("<Q", file, heap + 24)
    signature, _, level, count = unpack_from("<4sBBH", file, tree)
    assert (signature, level) == (b"TREE", 0)
    found: dict[str, tuple[int, int, int]] = {}
    for child in unpack_from(f"<{2 * count + 1}Q", file, tree + 24)[1::2]:
        (number,) = unpack_from("<6xH", file, child)
        for place in range(child + 8, child + 8 + 40 * number, 40):
            name, _, kind, _, subtree, subheap = unpack_from("<QQIIQQ", file, place)
            full = f"{path}/{file[names + name : file.index(0, names + name)].decode()}"
            found[full] = (kind, subtree, subheap)
            found |= links_of(file, subtree, subheap, full) if kind == 1 else {}
    return found


def test_links_to_groups_have_cached_symbol_tables_as_those_of_libhdf5(tmp_path: Path):
    tensors = dict.fromkeys(["a.b.c", "a.w", "d.w", "e"], TensorSpec("U8", (1,)))
    ours = bytes(file_of(tensors))
    with h5py.File(tmp_path / "x.h5", "w", libver="earliest") as file:
        for name in [*tensors, "__statezoo__"]:
            file[name.replace(".", "/")] = np.ones(1, np.uint8)
    theirs = (tmp_path / "x.h5").read_bytes()
    found = [links_of(file, *unpack_from("<QQ", file, 80)) for file in (ours, theirs)]
    assert found[0].keys() == found[1].keys() == {"/a", "/a/b", "/a/b/c", "/a/w", "/d", "/d/w", "/e", "/__statezoo__"}
    assert [kind for kind, *_ in found[0].values()] == [kind for kind, *_ in found[1].values()]
    assert {name for name, (kind, *_) in found[0].items() if kind} == {"/a", "/a/b", "/d"}


def test_libhdf5_reads_the_most_axes_and_the_deepest_names():
    tensors = {"axes": TensorSpec("F64", (1,) * 31 + (3,)), ".".join("abcd" * 50): TensorSpec("I8", (2,))}
    with in_h5py(file_of(tensors)) as seen:
        assert seen["axes"].shape == (1,) * 31 + (3,)  # pyright: ignore[reportAttributeAccessIssue]
        assert seen["/".join("abcd" * 50)].shape == (2,)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.skipif(not shutil.which("h5dump"), reason="h5dump (hdf5-tools) is not installed")
def test_stock_h5dump_and_h5repack_read_every_object_that_we_write(tmp_path: Path):
    tensors = {f"{dtype}.{number}": TensorSpec(dtype, (number,)) for dtype in dtypes.ITEM_BYTES for number in range(40)}
    (tmp_path / "x.h5").write_bytes(file_of(tensors, {"tie": "F32.3"}))
    shown = subprocess.run(["h5dump", tmp_path / "x.h5"], capture_output=True, text=True, check=True)
    assert shown.stdout.count("DATASET ") == len(tensors) + 2
    assert shown.stderr == ""
    subprocess.run(["h5repack", tmp_path / "x.h5", tmp_path / "y.h5"], check=True)
    with h5py.File(tmp_path / "x.h5") as ours, h5py.File(tmp_path / "y.h5") as theirs:
        for name in tensors:
            path = name.replace(".", "/")
            assert bytes_in_h5py(ours[path]) == bytes_in_h5py(theirs[path])


def test_the_data_starts_aligned_with_larger_elements_first():
    order = ["C128", "C64", "I64", "F32", "BF16", "BOOL", "U8"]
    tensors = {dtype: TensorSpec(dtype, (3,)) for dtype in reversed(order)}
    offsets = opened_of(file_of(tensors)).offsets
    assert offsets["C128"] % 64 == 0
    ends = {name: offsets[name] + tensor.size_bytes for name, tensor in tensors.items()}
    in_file = sorted(offsets, key=lambda name: offsets[name])
    assert [dtypes.ITEM_BYTES[name] for name in in_file] == [dtypes.ITEM_BYTES[name] for name in order]
    assert all(ends[one] == offsets[other] for one, other in pairwise(in_file))


def test_our_files_are_written_and_read_without_h5py(tmp_path: Path):
    script = """
import sys, numpy
from statezoo.checkpoints import load_file, save_file
save_file({"x": numpy.ones(3)}, sys.argv[1])
assert load_file(sys.argv[1])["x"].sum() == 3
assert "h5py" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "x.h5"], check=True)


# --- changes that libhdf5 may make to our file


def test_opening_a_file_for_writing_with_h5py_changes_no_byte(tmp_path: Path):
    before = bytes(file_of({"a.b": TensorSpec("F32", (3,)), "empty": TensorSpec("F32", (0,))}, {"tie": "a.b"}))
    (tmp_path / "x.h5").write_bytes(before)
    h5py.File(tmp_path / "x.h5", "r+").close()
    assert (tmp_path / "x.h5").read_bytes() == before


def test_h5py_can_add_to_and_remove_from_the_groups_of_our_file(tmp_path: Path):
    count = 300
    save_file({f"m.{number}": np.full(2, number) for number in range(count)} | {"one.w": np.ones(1)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        for number in range(0, count, 3):
            del file[f"m/{number}"]
        for number in range(count, 2 * count):
            file[f"m/{number}"] = [number, number]
        for number in range(20):
            file[f"one/{number}"] = [number]
            file["m/1"].attrs[f"note {number}"] = "x" * 50
        file["new/group/x"] = [1]
    with h5py.File(tmp_path / "x.h5") as file:
        expected = {number for number in range(2 * count) if number >= count or number % 3}
        group: Any = file["m"]
        assert {int(name) for name in group} == expected
        assert all(group[str(number)][()].tolist() == [number, number] for number in expected)
        assert len(group["1"].attrs) == 20
        assert len(file["one"]) == 21  # pyright: ignore[reportArgumentType]


def test_a_value_changed_in_place_with_h5py_damages_that_tensor(tmp_path: Path):
    save_file({"a": np.ones(3), "b": np.ones(3)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["b"][0] = 7  # pyright: ignore[reportIndexIssue]
    with pytest.raises(CorruptError) as caught:
        load_file(tmp_path / "x.h5")
    assert caught.value.tensors == ("b",)


CHANGES: dict[str, Callable[[h5py.File], Any]] = {
    "a dataset deleted": lambda file: file.pop("b/w"),
    "a tie deleted": lambda file: file.pop("tie"),
    "a tie made": lambda file: file.update(new=file["a"]),
    "a dataset added": lambda file: file.update(new=[1]),
    "an attribute added": lambda file: file["a"].attrs.update(note=1),
    "a dataset renamed": lambda file: file.move("a", "c"),
    "an attribute changed": lambda file: file["half"].attrs.modify("dtype", np.bytes_("float777")),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_structure_changed_with_h5py_is_an_error_until_our_dataset_is_deleted(tmp_path: Path, kind: str):
    a = np.arange(2.0)
    save_file({"a": a, "tie": a, "b.w": np.ones(2), "half": np.ones(2, ml_dtypes.bfloat16)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        CHANGES[kind](file)
    with pytest.raises(
        CorruptError, match=r"changed by another program.*delete __statezoo__ to load the file unchecked"
    ):
        load_file(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["__statezoo__"]
        if kind == "an attribute changed":
            del file["half"]
    loaded = load_file(tmp_path / "x.h5")
    assert loaded["c" if kind == "a dataset renamed" else "a"].tolist() == [0, 1]


def test_a_file_without_our_dataset_loads_unchecked(tmp_path: Path):
    state = {"a": np.arange(5.0), "b": np.array([True, False])}
    save_file(state, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["__statezoo__"]
    assert not (tmp_path / "x.h5").read_bytes().endswith(b"\n")
    loaded = load_file(tmp_path / "x.h5")
    assert {name: array.tolist() for name, array in loaded.items()} == {name: a.tolist() for name, a in state.items()}


# --- damage and false claims

FILE = bytes(
    file_of(
        {"a.w": TensorSpec("F32", (3,)), "b": TensorSpec("BF16", (3,)), "c": TensorSpec("U8", (3,))}, {"tie": "a.w"}
    )
)
START = opened_of(FILE).offsets["a.w"]
INDEX = START + 12 + 6 + 3


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_anywhere_in_the_structure_or_the_index_is_detected(flip: int):
    for place in [*range(START), *range(INDEX, len(FILE) - FOOTER_BYTES)]:
        file = bytearray(FILE)
        file[place] ^= flip
        what = "its HDF5 structure is not what was written" if place < START else "its index is not what was written"
        with pytest.raises(CorruptError, match=f"^<.* bytes> is damaged.*{what}.*Use another copy of it"):
            opened_of(file)


def test_a_flipped_bit_anywhere_in_the_footer_is_detected_or_changes_nothing():
    expected = opened_of(FILE)
    for place in range(len(FILE) - FOOTER_BYTES, len(FILE)):
        file = bytearray(FILE)
        file[place] ^= 1 << place % 8
        if not hdf5._FOOTER.fullmatch(file[-FOOTER_BYTES:]):
            continue  # then libhdf5 reads the file, see below
        with pytest.raises(CorruptError, match="is damaged"):
            assert opened_of(file) == expected


@pytest.mark.parametrize("place", [0, 20, 60, 114])
def test_a_file_without_a_footer_but_with_our_dataset_is_damaged(place: int):
    file = bytearray(FILE)
    file[place - FOOTER_BYTES] = 0
    with pytest.raises(CorruptError, match=r"is damaged, or was changed by another program.*__statezoo__"):
        opened_of(file)


def test_a_file_with_missing_or_repeated_bytes_is_damaged():
    for first, last in ((START, START + 8), (INDEX, INDEX + 8), (0, 64), (START - 8, len(FILE) - FOOTER_BYTES)):
        for file in (FILE[:first] + FILE[last:], FILE[:last] + FILE[first:]):
            with pytest.raises(CorruptError, match="is damaged"):
                opened_of(file)


def sealed(index: bytes, data: bytes = FILE[START:INDEX]) -> bytes:
    """Return a file whose digests all match, whatever its index says."""
    structure = FILE[:START]
    digests = xxh3_128_hexdigest(structure), xxh3_128_hexdigest(index)
    footer = f"\nstatezoo.hdf5 {digests[0]} {START:016x} {digests[1]} {len(index):016x}\n"
    return structure + data + index + footer.encode()


TRUE_INDEX = FILE[INDEX:-FOOTER_BYTES]
LIES = {
    "a tensor too long": (rb'"shape":\[3\],"data_offsets":\[0,12\]', b'"shape":[4],"data_offsets":[0,16]', "overlap"),
    "a size that does not match its shape": (rb'"data_offsets":\[0,12\]', b'"data_offsets":[0,11]', "takes 12 bytes"),
    "a tensor left out": (rb',"c":\{[^}]*\}', b"", "its tensors take 18 bytes, and 21"),
    "a negative offset": (rb"\[0,12\]", b"[-12,0]", "is not a dtype, a shape and two offsets"),
    "no manifest": (rb'"manifest":"123456789"', b'"manifest":null', "has no manifest or no tensors"),
    "tensors that are a list": (rb'"tensors":\{.*\},"version"', b'"tensors":[],"version"', "no manifest or no tensors"),
    "metadata that is not text": (rb'"key":"\xc3\xa9"', b'"key":1', "its metadata are not strings by name"),
    "no version": (rb',"version":3', b"", "its index has no version"),
    "another version": (rb'"version":3', b'"version":true', "its index has no version"),
    "no object": (rb"^.*$", b"[]", "is not valid JSON"),
    "no JSON": (rb"^\{", b"{{", "is not valid JSON"),
    "a depth without end": (rb"^.*$", b"[" * 100_000, "is not valid JSON"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_wrong_index_with_matching_digests_is_refused(kind: str):
    pattern, lie, what = LIES[kind]
    index, count = re.subn(pattern, lambda _: lie, TRUE_INDEX, count=1, flags=re.DOTALL)
    assert count == 1
    with pytest.raises(CorruptError, match=f"^<.* bytes> is damaged: .*{what}.*Use another copy of it"):
        opened_of(sealed(index))


def test_a_right_index_with_digests_computed_here_is_accepted():
    assert sealed(TRUE_INDEX) == FILE


def test_footer_sizes_beyond_the_file_are_refused():
    for size in (len(FILE), len(FILE) - FOOTER_BYTES, 1 << 40, (1 << 64) - 1):
        for field in (re.compile(rb"[0-9a-f]{16}(?=\n$)"), re.compile(rb"(?<= )[0-9a-f]{16}(?= )")):
            file = FILE[:-FOOTER_BYTES] + field.sub(b"%016x" % size, FILE[-FOOTER_BYTES:], count=1)
            with pytest.raises(CorruptError, match="is damaged: its footer does not fit its size"):
                opened_of(file)


def test_a_file_of_a_newer_version_is_an_error_that_says_to_upgrade():
    with pytest.raises(
        VersionError, match=r"newer statezoo \(its version of the file is 4, .* reads up to 3\). Upgrade"
    ):
        opened_of(sealed(TRUE_INDEX.replace(b'"version":3', b'"version":4')))
