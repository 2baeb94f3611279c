"""A corrupt file is an error that names the damaged tensors, and never loads wrong values silently."""

import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    FormatError,
    MissingFileError,
    ReadError,
    UnsupportedTypeError,
    VersionError,
    diff,
    inspect,
    load_file,
    read_metadata,
    save_file,
    verify,
)
from statezoo.checkpoints import fingerprint as fingerprint_of
from statezoo.checkpoints.files import open_header
from statezoo.checkpoints.formats import entries
from statezoo.checkpoints.testing import compare_states


def a_state() -> dict[str, Any]:
    weight = np.arange(12, dtype=np.float32).reshape(3, 4)
    base = np.arange(9.0)
    return {
        "fc.weight": weight,
        "fc.bias": np.arange(3, dtype=np.float16),
        "tied": weight,
        "view": weight.T,
        "a": base[:5],
        "b": base[3:],
        "_extra_state": {"step": 7},
        "half": np.ones(3, ml_dtypes.bfloat16),
    }


METADATA = {"epoch": "7", "note": "abc"}


def test_a_flipped_bit_in_any_tensor_is_an_error_that_names_the_tensor(path: Path):
    save_file(a_state(), path)
    content = path.read_bytes()
    with open_header(str(path)) as header:
        places = {
            name: (header.parts[0].opened.offsets[name], t.size_bytes)
            for name, t in header.parts[0].opened.tensors.items()
        }
    for name, (offset, size_bytes) in places.items():
        for byte in {0, size_bytes // 2, size_bytes - 1}:
            damaged = bytearray(content)
            damaged[offset + byte] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(CorruptError, match=r"is damaged: the bytes of these tensors") as caught:
                load_file(path)
            assert caught.value.tensors == (name,)
            assert str(path) in str(caught.value)


def test_all_corrupt_tensors_are_named(path: Path):
    save_file(a_state(), path)
    with open_header(str(path)) as header:
        offsets = [header.parts[0].opened.offsets[name] for name in ("fc.weight", "fc.bias")]
    damaged = bytearray(path.read_bytes())
    for offset in offsets:
        damaged[offset] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptError) as caught:
        load_file(path)
    assert caught.value.tensors == ("fc.weight", "fc.bias")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    where=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
    suffix=st.sampled_from([".safetensors", ".h5", ".npz"]),
)
def test_a_flipped_bit_anywhere_is_an_error_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, suffix: str
):
    target = tmp_path_factory.getbasetemp() / f"flipped{suffix}"
    save_file(a_state(), target, METADATA)
    content = bytearray(target.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    target.write_bytes(content)
    try:
        loaded, metadata = load_file(target), read_metadata(target)
    except CheckpointError:
        return
    assert list(compare_states(a_state(), loaded)) == []
    assert metadata == METADATA


def test_every_flipped_bit_in_the_safetensors_header_is_an_error_or_changes_nothing(tmp_path: Path):
    target = tmp_path / "x.safetensors"
    save_file(a_state(), target, METADATA)
    content = target.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    for position in range(end):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        target.write_bytes(damaged)
        try:
            loaded, metadata = load_file(target), read_metadata(target)
        except CheckpointError:
            continue
        assert list(compare_states(a_state(), loaded)) == []
        assert metadata == METADATA


def test_a_file_cut_off_anywhere_is_an_error(path: Path):
    save_file(a_state(), path)
    content = path.read_bytes()
    for length in (*range(0, len(content) - 1, 97), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CorruptError):
            load_file(path)


def test_bytes_added_to_a_safetensors_file_are_an_error(tmp_path: Path):
    target = tmp_path / "x.safetensors"
    save_file(a_state(), target)
    target.write_bytes(target.read_bytes() + b"\0")
    with pytest.raises(CorruptError, match=r"its tensors take [\d,]+ bytes, and [\d,]+ follow the header"):
        load_file(target)


def canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def hash_of(content: Any) -> str:
    return xxh3_128_hexdigest(canonical(content).encode())


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `change` to the manifest of the file at `path`, as a dict, and write it back with matching checksums."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    _, *fields, entries = header["__metadata__"]["statezoo"].split(" ", 8)
    record = dict(field.split("=", 1) for field in fields) | json.loads(entries)
    record["storages"] = int(record["storages"])
    change(record)
    with open_header(str(path)) as opened:
        stored = [
            [n, *t, record["digests"][32 * i : 32 * i + 32]]
            for i, (n, t) in enumerate(opened.parts[0].opened.tensors.items())
        ]
    empty: dict[str, Any] = {"aliases": [], "extra": [], "layouts": {}, "own": []}
    entries = {key: record[key] for key in empty if key in record}
    covered = {key: (empty | entries)[key] for key in ("aliases", "extra", "layouts")}
    record["fingerprint"] = hash_of(covered | {"storages": record["storages"], "stored": stored})
    before = f"version={record['version']} "
    names = ("fingerprint", "metadata", "storages", "digests", "blocks")
    after = " ".join(f"{name}={record[name]}" for name in names if name in record) + f" {canonical(entries)}"
    checksum = xxh3_128_hexdigest((before + after).encode())
    header["__metadata__"] = {"statezoo": f"seal={'0' * 32} {before}checksum={checksum} {after}"}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def test_a_rewritten_header_with_matching_checksums_loads(tmp_path: Path):
    save_file(a_state(), tmp_path / "x.safetensors")
    rewritten(tmp_path / "x.safetensors", lambda record: None)
    assert list(compare_states(a_state(), load_file(tmp_path / "x.safetensors"))) == []


@pytest.mark.parametrize("version", [3, 123456789])
def test_a_file_of_a_newer_version_says_to_upgrade(tmp_path: Path, version: int):
    save_file(a_state(), tmp_path / "x.safetensors")
    rewritten(tmp_path / "x.safetensors", lambda record: record.update(version=version, storages="in another way"))
    with pytest.raises(VersionError, match=rf"newer statezoo .*is {version}, and .* up to 2.*Upgrade statezoo"):
        load_file(tmp_path / "x.safetensors")


def resealed(content: bytes) -> bytes:
    """Return a safetensors file with a seal that fits whatever its header says."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[:8] + entries.sealed(content[8:end]) + content[end:]


def test_a_false_fingerprint_in_a_sealed_header_is_damage_wherever_fingerprints_are_used(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file(a_state(), path)
    fingerprint = inspect(path).fingerprint
    path.write_bytes(resealed(path.read_bytes().replace(str(fingerprint).encode(), b"0" * 32)))
    assert list(compare_states(a_state(), load_file(path))) == []
    for use in (inspect, verify, fingerprint_of, lambda path: diff(path, a_state())):
        with pytest.raises(CorruptError, match="its fingerprint is not that of its content"):
            use(path)


def test_a_newer_version_in_a_sealed_header_says_to_upgrade(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_file(a_state(), path)
    content = path.read_bytes().replace(b"version=2", b"version=7")
    path.write_bytes(content)
    with pytest.raises(CorruptError):
        load_file(path)
    path.write_bytes(resealed(content))
    with pytest.raises(VersionError, match="Upgrade"):
        load_file(path)


def test_a_changed_bit_in_a_version_number_is_damage(path: Path):
    save_file(a_state(), path)
    content = path.read_bytes()
    places = [content.find(number) + len(number) - 1 for number in (b"version=2", b'"version":3')]
    for place, bit in product(filter(lambda place: place > 16, places), range(8)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        with pytest.raises(CorruptError):
            load_file(path)


@pytest.mark.parametrize("file", ["version1.safetensors", "version2.h5"])
def test_a_changed_bit_in_the_version_number_of_an_older_file_is_damage(tmp_path: Path, file: str):
    content = (Path(__file__).parents[1] / "formats" / "golden" / file).read_bytes()
    place = content.index(b"version") + content[content.index(b"version") :].index(b":1") + 1
    for bit in range(8):
        (tmp_path / file).write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        with pytest.raises(CorruptError):
            load_file(tmp_path / file)


HOSTILE = {
    "a view before its tensor": lambda r: r["aliases"][1].__setitem__(5, -4),
    "a view behind its tensor": lambda r: r["aliases"][1].__setitem__(5, 4),
    "strides that leave it": lambda r: r["aliases"][1].__setitem__(6, [4, 17]),
    "negative strides that leave it": lambda r: r["aliases"][1].__setitem__(6, [-4, 16]),
    "a huge shape": lambda r: r["aliases"][1].__setitem__(4, [2**62, 2**62]),
    "a huge shape without strides": lambda r: (
        r["aliases"][1].__setitem__(4, [2**40, 2**40]), r["aliases"][1].__setitem__(6, [0, 0])
    ),
    "a negative shape": lambda r: r["aliases"][1].__setitem__(4, [-1, 3]),
    "a shape of floats": lambda r: r["aliases"][1].__setitem__(4, [4.0, 3]),
    "a shape of booleans": lambda r: r["aliases"][1].__setitem__(4, [True, True]),
    "too many axes": lambda r: (r["aliases"][1].__setitem__(4, [1] * 99), r["aliases"][1].__setitem__(6, [0] * 99)),
    "an unknown dtype": lambda r: r["aliases"][1].__setitem__(3, "object"),
    "a tie to nothing": lambda r: r["aliases"][0].__setitem__(2, "nobody"),
    "a name that is there": lambda r: r["aliases"][0].__setitem__(1, "fc.bias"),
    "a name that is no text": lambda r: r["aliases"][0].__setitem__(1, ["x"]),
    "a name with a lone surrogate": lambda r: r["aliases"][0].__setitem__(1, "\ud800"),
    "a name that is a number": lambda r: r["aliases"][0].__setitem__(1, 3),
    "a position that does not exist": lambda r: r["aliases"][0].__setitem__(0, 99),
    "a position twice": lambda r: r["aliases"][0].__setitem__(0, 3),
    "an invalid layout": lambda r: r.update(layouts={"fc.weight": [0, 0]}),
    "a layout of nothing": lambda r: r.update(layouts={"nobody": [0]}),
    "more storages than tensors": lambda r: r.update(storages=99),
    "fewer digests than tensors": lambda r: r.update(digests=r["digests"][:32]),
    "digests that are no digits": lambda r: r.update(digests="\x1b" * len(r["digests"])),
    "digests with capital letters": lambda r: r.update(digests="A" * len(r["digests"])),
    "no blocks": lambda r: r.pop("blocks"),
    "blocks of nothing": lambda r: r.update(blocks="AAAA"),
    "blocks that are no base64": lambda r: r.update(blocks="é"),
    "entries that are a list": lambda r: r.update(layouts=[]),
    "storages that are no number": lambda r: r.update(storages="1_0"),
    "storages of many digits": lambda r: r.update(storages="9" * 5000),
    "negative storages": lambda r: r.update(storages="-1"),
    "aliases that are no list": lambda r: r.update(aliases=3),
    "a version that is no number": lambda r: r.update(version="x"),
    "a version of many digits": lambda r: r.update(version="9" * 5000),
    "a version of other digits": lambda r: r.update(version="٣"),
    "a version of zero": lambda r: r.update(version=0),
    "version 1 in the text of version 2": lambda r: r.update(version=1),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_corrupt_manifest_with_right_checksums_is_refused(tmp_path: Path, kind: str):
    save_file(a_state(), tmp_path / "x.safetensors")
    rewritten(tmp_path / "x.safetensors", HOSTILE[kind])
    with pytest.raises(CorruptError, match=r"its manifest is not what was written"):
        load_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "null",
        '"x"',
        "{",
        "[" * 100_000,
        "{" * 100_000,
        "{}",
        '{"version":1}',
        "9" * 5_000,
        "NaN",
        " " * 9,
        "seal=",
        f"seal={'0' * 32} ",
        "seal=" + "0" * 32 + " {}",
        "version=2",
        "version=2 checksum=" + "0" * 32 + " ",
    ],
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, text: str):
    header = json.dumps({"__metadata__": {"statezoo": text}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CorruptError, match=r"its manifest is not what was written"):
        load_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "content", [b"[]", b"{}", b'{"names":["x"]}', b"\xff", b'{"manifest":3,"metadata":3,"names":3}']
)
def test_an_h5_file_with_nonsense_in_our_dataset_is_refused(tmp_path: Path, content: bytes):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["__statezoo__"] = np.frombuffer(content, "u1")
    with pytest.raises(CheckpointError):
        load_file(tmp_path / "x.h5")


HEADERS = {
    b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}': "not valid JSON",
    b'[]': "not valid JSON",
    b'\xef\xbb\xbf{}': "not valid JSON",
    b'{"\xff":1}': "not valid JSON",
    b'{"\\ud800":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}': "not valid JSON",
    b"[" * 100_000: "not valid JSON",
    b'{"a":' * 100_000: "not valid JSON",
    b'{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}':
        "twice",
    b'{"x":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}': "twice",
    b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,NaN]}}': "NaN",
    b'{"x":{"dtype":"U8","shape":[2.0],"data_offsets":[0,2]}}': "'x' is not a dtype, a shape and two offsets",
    b'{"x":{"dtype":"U8","shape":[true,2],"data_offsets":[0,2]}}': "is not a dtype",
    b'{"x":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}}': "is not a dtype",
    b'{"x":{"dtype":"U8","shape":2,"data_offsets":[0,2]}}': "is not a dtype",
    b'{"x":{"dtype":"U8","shape":"","data_offsets":[0,1]}}': "is not a dtype",
    b'{"x":{"dtype":["U8"],"shape":[2],"data_offsets":[0,2]}}': "is not a dtype",
    b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2,4]}}': "is not a dtype",
    b'{"x":{"dtype":"U8","shape":[2]}}': "is not a dtype",
    b'{"x":3}': "is not a dtype",
    b'{"x":null}': "is not a dtype",
    b'{"x":{"dtype":"U8","shape":[3],"data_offsets":[0,2]}}': "takes 3 bytes, and its entry gives it 2",
    b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}': "takes 2 bytes, and its entry gives it -2",
    b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}': "gap or overlap",
    b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}': "take 1 bytes, and 2 follow",
    b'{"x":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}': "take 9 bytes, and 2 follow",
    b'{"x":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,2]}}': "takes 73786976294838206464 bytes",
    b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}': "gap",
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=lambda header: header[:60].decode("latin-1"))
def test_an_invalid_safetensors_header_is_an_error_that_says_what_is_wrong(tmp_path: Path, header: bytes):
    target = tmp_path / "x.safetensors"
    target.write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2")
    with pytest.raises(CorruptError, match=r"is not a valid safetensors file") as caught:
        load_file(target)
    assert HEADERS[header] in str(caught.value)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 3])
def test_a_wrong_safetensors_header_length_is_refused(tmp_path: Path, length: int):
    (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(CorruptError, match=r"its header should take"):
        load_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize("dtype", ["C128", "X"])
def test_an_unknown_dtype_is_refused_by_name(tmp_path: Path, dtype: str):
    header = json.dumps({"deep.x": {"dtype": dtype, "shape": [4], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2")
    with pytest.raises(UnsupportedTypeError, match=rf"'deep.x': its dtype is '{dtype}', which this version"):
        load_file(tmp_path / "x.safetensors")


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [1] * 100])
def test_a_shape_that_numpy_cannot_hold_is_refused_by_name(tmp_path: Path, shape: list[int]):
    size_bytes = 0 if 0 in shape else 1
    header = json.dumps({"x": {"dtype": "U8", "shape": shape, "data_offsets": [0, size_bytes]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\1" * size_bytes)
    with pytest.raises(FormatError, match=r"'x' in .* has a shape that NumPy cannot hold"):
        load_file(tmp_path / "x.safetensors")


CONTENTS = {
    b"": "It is empty",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n": "a Git LFS pointer.*git lfs pull",
    b"<!DOCTYPE html><html><body>404</body></html>": "an HTML or XML page",
    b"\n  <html></html>": "an HTML or XML page",
    b"PK\3\4 archive": "a zip archive",
    b"\x80\x04\x95pickled bytes": "a Python pickle, which is never loaded",
    b"\x93NUMPY\1\0": r"It looks like a file in the npy format. Rename it to end in .npy",
    b"\x1f\x8b\x08 gzip": "a gzip archive",
    b"GGUF\3\0\0\0\0\0\0\0": "It looks like a file in the gguf format. Rename it to end in .gguf",
    b"just some text that is no checkpoint at all": "It looks like text. Pass the file that holds the tensors",
    b"\xff\xfe\xfd no text": "damaged or cut off",
}


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: content[:12].decode("latin-1"))
def test_a_file_of_another_kind_is_an_error_that_says_what_it_looks_like(path: Path, content: bytes):
    path.write_bytes(content)
    for read in (load_file, read_metadata, inspect):
        with pytest.raises(CorruptError, match=CONTENTS[content]):
            read(path)


def test_a_file_in_the_other_format_is_an_error_that_says_to_rename_it(tmp_path: Path):
    save_file({"x": np.ones(2)}, tmp_path / "a.safetensors")
    save_file({"x": np.ones(2)}, tmp_path / "b.h5")
    (tmp_path / "a.safetensors").rename(tmp_path / "a.h5")
    (tmp_path / "b.h5").rename(tmp_path / "b.safetensors")
    with pytest.raises(
        CorruptError, match=r"looks like a file in the safetensors format. Rename it to end in .safetensors"
    ):
        load_file(tmp_path / "a.h5")
    with pytest.raises(CorruptError, match=r"looks like a file in the hdf5 format. Rename it to end in .h5"):
        load_file(tmp_path / "b.safetensors")


def test_the_error_for_a_truncated_file_does_not_advise_the_suffix_it_has(path: Path):
    save_file({"x": np.ones(20)}, path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(
        CorruptError, match=r"was cut off: .* Use another copy of it|damaged or cut off. Use another copy of it"
    ):
        load_file(path)


@pytest.mark.parametrize(("number", "times"), [("9" * 4000, 500), ("2", 200_000)], ids=["huge numbers", "many axes"])
def test_a_shape_that_would_take_hours_to_multiply_is_refused_at_once(tmp_path: Path, number: str, times: int):
    header = f'{{"x":{{"dtype":"F32","shape":[{",".join([number] * times)}],"data_offsets":[0,0]}}}}'.encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    start = time.process_time()
    with pytest.raises(CorruptError, match=r"the entry of tensor 'x' is not"):
        load_file(tmp_path / "x.safetensors")
    assert time.process_time() - start < 2


def test_overlapping_datasets_cannot_multiply_a_file_in_memory(tmp_path: Path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.ones(5000), np.zeros(5000)
        first, second = (file[name].id.get_offset() for name in "ab")
    content = path.read_bytes().replace(second.to_bytes(8, "little"), first.to_bytes(8, "little"))
    # The size of the file in the superblock.
    content = content[:40] + second.to_bytes(8, "little") + content[48:second]
    path.write_bytes(content)
    with h5py.File(path) as file:
        assert file["b"][0] == 1  # pyright: ignore[reportIndexIssue]
    with pytest.raises(CorruptError, match=r"'/b' has bytes that belong to another dataset"):
        load_file(path)


def test_a_missing_file_is_a_file_not_found_error_that_says_where_it_looked(path: Path):
    with pytest.raises(MissingFileError, match=rf"there is no file {path}. Check the path") as caught:
        load_file(path)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_and_a_pipe_are_refused_without_waiting(path: Path):
    import os

    path.mkdir()
    with pytest.raises(ReadError, match=r"is a folder. Give the path of a checkpoint file"):
        load_file(path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(ReadError, match=r"is not a regular file"):
        load_file(path)


def test_a_device_is_refused_without_being_opened(path: Path, monkeypatch: pytest.MonkeyPatch):
    import os

    path.symlink_to("/dev/null")
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(ReadError, match=r"is not a regular file"):
        load_file(path)


def test_a_header_nested_to_the_recursion_limit_is_refused_at_any_stack_depth():
    for depth in range(300, 1100, 7):
        text = b'{"a":' * depth + b"1" + b"}" * depth
        with pytest.raises(FormatError, match="is not a valid safetensors file"):
            load_file(len(text).to_bytes(8, "little") + text)


def test_a_repeated_name_is_refused_in_our_file_too(tmp_path: Path):
    target = tmp_path / "x.safetensors"
    save_file({"a": np.ones(3)}, target)
    content = target.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = content[8 : 8 + length].replace(b'"a":{"dtype"', b'"a":{"dtype":""},"a":{"dtype"')
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(CorruptError, match=r"'a' occurs twice"):
        load_file(target)
