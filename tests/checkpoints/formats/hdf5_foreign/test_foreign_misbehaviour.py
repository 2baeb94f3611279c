"""A libhdf5 process that fails or lies is an error."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import pytest
from foreign_files import ENTRY, GOOD, INDEX, NONSENSE, READY, opened, read, run_instead

from statezoo.checkpoints import CorruptError, FormatError
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource

FAILING = {
    "a crash": ("os.kill(os.getpid(), signal.SIGSEGV)", r"reading it crashed libhdf5 \(signal SIGSEGV\)"),
    "an end": ("sys.exit(3)", r"reading it ended libhdf5 \(status 3\)"),
    "an end without an error": ("", r"reading it ended libhdf5 \(status 0\)"),
    "a signal without a name": ("os.kill(os.getpid(), 40)", r"signal 40"),
    "no time left": ("os.kill(os.getpid(), signal.SIGXCPU)", "reading it took longer than 5 s"),
    "garbage": ("os.write(1, bytes(range(200)))", NONSENSE),
    "half a head": ("os.write(1, b'=1')", r"ended libhdf5"),
    "half an answer": ("answer(b'=', b'{', 9)", r"ended libhdf5"),
    "an answer without end": ("answer(b'=', b'{', 1 << 62)", NONSENSE),
    "an error without end": ("answer(b'?', b'x', 1 << 62)", NONSENSE),
    "closed answers": ("os.close(1); time.sleep(600)", r"\(signal SIGKILL\)"),
    "an error": (
        r"answer(b'?', b'no \x1b[31m heap' + b'x' * 999)",
        r"HDF5 file: no \\x1b\[31m heapx{100,190}\. It may",
    ),
    "an error that is no text": (r"answer(b'?', b'\xff\xfe')", "HDF5 file"),
    "work without end": ("\nwhile True: answer(b'.', b'')", NONSENSE),
    "no memory": ("answer(b'M', b'')", "more memory than a file of its size should"),
    "an index that is deep": ("answer(b'=', b'[' * 9999)", NONSENSE),
}


@pytest.mark.parametrize("kind", FAILING)
def test_a_process_that_fails_is_an_error_and_is_ended(
    plain: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any], kind: str
):
    code, text = FAILING[kind]
    run_instead(monkeypatch, READY + code)
    with pytest.raises(CorruptError, match=text) as caught:
        open_foreign(FileSource(str(plain)))
    assert str(caught.value).startswith(f"{plain} is not a valid HDF5 file: ")
    assert started[0].returncode is not None


def index_of(**changes: Any) -> dict[str, Any]:
    return INDEX | {"datasets": [ENTRY | changes]}


LIES: dict[str, tuple[Any, str]] = {
    "no object": ([], NONSENSE),
    "nothing": ({}, NONSENSE),
    "a number": (3, NONSENSE),
    "links to nothing": (INDEX | {"datasets": [], "links": [[["x"], 0]]}, NONSENSE),
    "links from the end": (INDEX | {"datasets": [ENTRY], "links": [[["x"], -1]]}, NONSENSE),
    "a number that is a list": (INDEX | {"datasets": [ENTRY], "links": [[["x"], []]]}, NONSENSE),
    "a path that is text": (INDEX | {"datasets": [ENTRY], "links": [["x", 0]]}, NONSENSE),
    "a path of numbers": (INDEX | {"datasets": [ENTRY], "links": [[[1], 0]]}, NONSENSE),
    "a link of three": (INDEX | {"datasets": [ENTRY], "links": [[["x"], 0, 1]]}, NONSENSE),
    "a dataset that is a list": (INDEX | {"datasets": [[]], "links": [[["x"], 0]]}, NONSENSE),
    "a dtype that is a number": (index_of(dtype=3), NONSENSE),
    "a shape that is a number": (index_of(shape=3), NONSENSE),
    "a shape of many axes": (index_of(shape=[1] * 33), NONSENSE),
    "a negative shape": (index_of(shape=[-1]), NONSENSE),
    "a shape of floats": (index_of(shape=[1.0]), NONSENSE),
    "a shape of booleans": (index_of(shape=[True]), NONSENSE),
    "a negative offset": (index_of(offset=-1), NONSENSE),
    "an offset of text": (index_of(offset="1"), NONSENSE),
    "an offset beyond the file": (index_of(offset=1 << 40), r"'/x' reaches beyond the end of the file"),
    "a huge shape": (index_of(shape=[1 << 62, 1 << 62], offset=0), r"'/x' reaches beyond the end of the file"),
    "an address of text": (index_of(address="1"), NONSENSE),
    "a note of numbers": (index_of(note=3), NONSENSE),
    "unsupported of three": (INDEX | {"unsupported": [[["x"], "y", 0]]}, NONSENSE),
    "unsupported without a reason": (INDEX | {"unsupported": [[["x"], 0]]}, NONSENSE),
    "unsupported without a path": (INDEX | {"unsupported": [["x", "y"]]}, NONSENSE),
    "orders of numbers": (INDEX | {"orders": [[["x"], [1]]]}, NONSENSE),
    "orders without a path": (INDEX | {"orders": [["x", ["y"]]]}, NONSENSE),
    "no orders": ({key: value for key, value in INDEX.items() if key != "orders"}, NONSENSE),
    "the same bytes often": (
        INDEX | {"datasets": [ENTRY | {"shape": [4000], "offset": 0}] * 2, "links": [[["x"], 0], [["y"], 1]]},
        r"'/y' has bytes that belong to another dataset",
    ),
    "one name twice": (
        INDEX | {"datasets": [ENTRY] * 2, "links": [[["x"], 0], [["x"], 1]]},
        r"'/x' and '/x' in .* would both be named 'x'",
    ),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_process_that_lies_is_not_believed(
    plain: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any], kind: str
):
    content, text = LIES[kind]
    plain.write_bytes(plain.read_bytes().ljust(6000, b"\0"))
    run_instead(monkeypatch, f"{READY}answer(b'=', {json.dumps(content).encode()!r}); time.sleep(600)")
    with pytest.raises(FormatError, match=text):
        open_foreign(FileSource(str(plain)))
    assert started[0].returncode is not None


UNSUPPORTED = {
    "a huge shape to be read": (index_of(shape=[1 << 62, 1 << 62]), r"far more than the file has"),
    "an element of another size": (index_of(item_bytes=2), r"it holds uint8, which this version does not support"),
    "an unknown dtype": (index_of(dtype="object"), r"it holds object, which this version does not support"),
    "opaque numbers": (index_of(dtype="opaque uint8"), r"opaque bytes"),
    "a reason": (INDEX | {"links": [], "unsupported": [[["x"], "it\x1b is"]]}, "^it\x1b is$"),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_datasets_that_cannot_be_read_are_listed_as_unsupported(
    plain: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    content, reason = UNSUPPORTED[kind]
    run_instead(monkeypatch, f"{READY}answer(b'=', {json.dumps(content).encode()!r}); time.sleep(600)")
    with opened(plain) as found:
        assert (list(found.tensors), list(found.unsupported)) == ([], ["x"])
        assert re.search(reason, found.unsupported["x"])


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("answer(b'=', b'123'); time.sleep(600)", NONSENSE),
        ("answer(b'=', b'12345'); time.sleep(600)", NONSENSE),
        ("answer(b'=', b'123', 4)", "ended libhdf5"),
        ("answer(b'R', b''); time.sleep(600)", NONSENSE),
        ("answer(b'?', b'bad chunk'); time.sleep(600)", "bad chunk"),
    ],
)
def test_values_whose_size_differs_from_the_tensor_are_an_error(
    plain: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str
):
    run_instead(monkeypatch, READY + GOOD + code)
    with opened(plain) as found, pytest.raises(CorruptError, match=text):
        read(found, "x")


def test_values_that_cannot_be_read_do_not_prevent_reading_the_others(packed: Path):
    with h5py.File(packed, "a") as file:
        file.create_dataset("bad", (64,), "f8", chunks=(64,), compression="gzip")
        file["bad"].id.write_direct_chunk((0,), b"no zlib stream")
    with opened(packed) as found:
        with pytest.raises(CorruptError, match=r"is not a valid HDF5 file: .*filter returned failure"):
            read(found, "bad")
        assert read(found, "lzf").sum() == 100
