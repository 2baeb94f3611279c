"""HDF5 files that libhdf5 has to read: it does so in a process of its own, and whatever becomes of that is an error."""

import gc
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from statezoo.checkpoints import CorruptError, FormatError, ReadError, save_file
from statezoo.checkpoints.formats import Opened, hdf5_process, hdf5_worker
from statezoo.checkpoints.formats.hdf5_foreign import open_foreign
from statezoo.checkpoints.source import FileSource, Source, source_of

PLAIN = {
    "bools": np.array([True, False]),
    "complex": np.array([1j, 2]),
    "int8": np.array([-1, 2], "i1"),
    "nested.deep.matrix": np.arange(6.0).reshape(2, 3),
    "scalar": np.array(2.5),
}
# Values that do not stand in the file as they are in memory, and how they are put there.
PACKED: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "big": (np.arange(3, dtype=">i4"), {}),
    "chunked": (np.arange(60).reshape(6, 10), {"chunks": (4, 3), "maxshape": (None, 10)}),
    "gzip": (np.arange(1000), {"chunks": (100,), "compression": "gzip", "shuffle": True, "fletcher32": True}),
    "lzf": (np.ones((10, 10), "f4"), {"compression": "lzf"}),
    "offset": (np.arange(40, dtype="i2"), {"chunks": (10,), "scaleoffset": 6}),
    "packed_bools": (np.array([True, False, True]), {"chunks": (2,)}),
    "unwritten": (np.full(3, 7, "i2"), {"fillvalue": 7}),
}


@contextmanager
def opened(file: Any) -> Iterator[Opened]:
    source = source_of(file)
    try:
        found = open_foreign(source)
        try:
            yield found
        finally:
            found.close()
    finally:
        source.close()


def read(found: Opened, name: str) -> np.ndarray:
    assert found.read is not None
    return found.read(name)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, values in PLAIN.items():
            file[name.replace(".", "/")] = values
    return tmp_path / "plain.h5"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        for name, (values, options) in PACKED.items():
            fill = {"shape": values.shape, "dtype": values.dtype} if name == "unwritten" else {"data": values}
            file.create_dataset(name, **fill, **options)
    return tmp_path / "packed.h5"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[Any]]:
    """The processes that are started from now on."""
    processes: list[subprocess.Popen[Any]] = []
    start = subprocess.Popen

    def noting(*arguments: Any, **options: Any) -> subprocess.Popen[Any]:
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", noting)
    return processes


# --- what is in a file


def test_values_that_stand_in_the_file_as_in_memory_are_given_by_their_offsets(plain: Path):
    content = plain.read_bytes()
    with opened(plain) as found:
        assert found.read is None
        assert list(found.tensors) == sorted(PLAIN)
        for name, values in PLAIN.items():
            assert found.tensors[name].shape == values.shape
            assert content[found.offsets[name] :][: values.nbytes] == values.tobytes()


def test_other_values_are_read_little_endian_contiguous_and_writable(packed: Path):
    with opened(packed) as found:
        assert found.offsets == {}
        for name, (values, _) in PACKED.items():
            array = read(found, name)
            assert array.dtype == values.dtype.newbyteorder("<")
            assert array.tobytes() == values.astype(array.dtype).tobytes()
            assert array.shape == values.shape
            assert array.flags.c_contiguous
            assert array.flags.writeable


def test_a_file_in_memory_is_read_as_one_on_disk_is(packed: Path):
    content = packed.read_bytes()
    for file in (content, bytearray(content), io.BytesIO(content)):
        with opened(file) as found:
            assert read(found, "gzip").tolist() == list(range(1000))


def test_a_path_of_spaces_and_other_letters_is_no_obstacle(packed: Path, tmp_path: Path):
    folder = tmp_path / "ein Größenwahn\n'; -c"
    folder.mkdir()
    with opened(packed.rename(folder / "模型 $x.h5")) as found:
        assert read(found, "lzf").sum() == 100


def test_opaque_elements_of_every_kind_of_attribute_have_its_dtype(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, text in {"a": "bfloat16", "b": np.bytes_("bfloat16")}.items():
            file[name] = np.zeros(3, "V2")
            file[name].attrs["dtype"] = text
        file.create_dataset("c", data=np.arange(4, dtype="u1").view("V2"), chunks=(1,)).attrs["dtype"] = "bfloat16"
    with opened(tmp_path / "x.h5") as found:
        assert {tensor.dtype for tensor in found.tensors.values()} == {"BF16"}
        assert read(found, "c").tobytes() == bytes(range(4))


def test_only_a_file_with_the_signature_of_hdf5_starts_a_process(tmp_path: Path, started: list[Any]):
    for content in (b"", b"\x89HDF", b"x" * 5000, b"<html>"):
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(CorruptError, match=r"is not a valid HDF5 file: file signature not found"):
            open_foreign(FileSource(str(tmp_path / "x.h5")))
    assert started == []
    (tmp_path / "x.h5").write_bytes(bytes(1024) + b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(CorruptError, match=r"is not a valid HDF5 file"), opened(tmp_path / "x.h5"):
        pass
    assert len(started) == 1


# --- files of ours that other programs changed


def test_a_dataset_added_to_a_file_of_ours_is_noticed_and_deleting_the_index_loads_it_unchecked(tmp_path: Path):
    save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["new"] = np.ones(1)
    with pytest.raises(CorruptError, match=r"changed by another program.*it has the dataset 'new'") as caught:
        open_foreign(FileSource(str(tmp_path / "x.h5")))
    assert caught.value.tensors == ("new",)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        del file["__statezoo__"]
    with opened(tmp_path / "x.h5") as found:
        assert list(found.tensors) == ["a", "new"]


def test_an_attribute_added_to_a_file_of_ours_is_noticed(tmp_path: Path):
    save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["a"].attrs["note"] = "x" * 1000
    with pytest.raises(CorruptError, match=r"changed by another program.*not at its end as it was written"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))


@pytest.mark.parametrize("version", [1, 2])
def test_an_index_under_another_name_is_damage(tmp_path: Path, version: int):
    golden = Path(__file__).parent / "golden" / "version1.h5"
    (tmp_path / "x.h5").write_bytes(golden.read_bytes())
    if version == 2:
        save_file({"a": np.ones(2)}, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file.move("__statezoo__", "other")
    with pytest.raises(CorruptError, match=r"the name of the dataset __statezoo__ was changed to 'other'"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))


@pytest.mark.parametrize(
    "content", [b"[]", b"3", b"{}", b'{"names":3}', b'{"names":[[]],"manifest":"","metadata":{}}', b"\xff", b"[" * 9999]
)
def test_an_index_that_is_none_is_damage(tmp_path: Path, content: bytes):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["__statezoo__"] = np.frombuffer(content, "u1")
    with pytest.raises(CorruptError, match=r"is damaged: __statezoo__ is not what was written"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))


# --- files that harm libhdf5


def write_crashing(path: Path) -> None:
    """Write a chunk with a checksum whose size is said to be none: libhdf5 2.0.0 reads before its start."""
    with h5py.File(path, "w", libver="earliest") as file:
        dataset = file.create_dataset("x", data=np.arange(40), chunks=(40,), fletcher32=True)
        key = dataset.id.get_chunk_info(0).size.to_bytes(4, "little") + bytes(12)
    content = path.read_bytes()
    assert content.count(key) == 1
    path.write_bytes(content.replace(key, bytes(16)))


def write_hanging(path: Path) -> None:
    """Write a text in a heap whose next object is said to take no bytes: libhdf5 2.0.0 never gets past it."""
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = np.zeros(4, "V2")
        file["x"].attrs["dtype"] = "bfloat16"
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 32] = b"\x09\0\1\0" + bytes(12)
    path.write_bytes(content)


def test_a_file_that_crashes_libhdf5_is_an_error_that_says_so(tmp_path: Path, started: list[Any]):
    write_crashing(tmp_path / "x.h5")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, h5py; h5py.File(sys.argv[1])['x'][()]", tmp_path / "x.h5"]
    )
    if done.returncode != -signal.SIGSEGV:
        pytest.skip("this version of libhdf5 does not crash")
    with opened(tmp_path / "x.h5") as found:
        with pytest.raises(
            CorruptError, match=r"is not a valid HDF5 file: reading it crashed libhdf5 \(signal SIGSEGV\)"
        ):
            read(found, "x")
        with pytest.raises(ReadError, match=r"is no longer open here. Open it again"):
            read(found, "x")
    assert all(process.returncode is not None for process in started)


@pytest.mark.parametrize("limit", ["_LEAST_SECONDS", "_MOST_WAITING"])
def test_a_file_that_libhdf5_never_gets_through_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any], limit: str
):
    monkeypatch.setattr(hdf5_process, "_LEAST_SECONDS", 1)
    if limit == "_MOST_WAITING":  # the time that passes, rather than that of the processor
        monkeypatch.setattr(hdf5_process, "_LEAST_SECONDS", 60)
        monkeypatch.setattr(hdf5_process, limit, 1 / 30)
    write_hanging(tmp_path / "x.h5")
    with pytest.raises(CorruptError, match=r"is not a valid HDF5 file: reading it took longer than [12](\.0)? s"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))
    assert started[0].returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_what_unpacks_to_far_more_than_the_file_has_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hdf5_process, "_LEAST_MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr("statezoo.checkpoints.formats.hdf5_foreign._FREE_EXPANSION_BYTES", 1 << 26)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (1 << 26,), "u1", chunks=(1 << 10,))
    source = FileSource(str(tmp_path / "x.h5"))
    process = hdf5_process.Hdf5Process(source, 1 << 10)
    try:
        process.index()
        with pytest.raises(CorruptError, match=r"reading it took more memory than a file of its size should"):
            process.values(0, memoryview(bytearray(1 << 26)))
    finally:
        process.close()
        source.close()


# --- what the process may do


LIMITED = """
import sys
from statezoo.checkpoints.formats import hdf5_worker
hdf5_worker._limit(64 << 20)
def fails(attempt):
    try:
        attempt()
    except BaseException as error:
        return type(error).__name__
print(fails(lambda: open(sys.argv[1])), fails(lambda: bytes(128 << 20)), fails(lambda: bytes(16 << 20)))
hdf5_worker._allow(1)
while True:
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="not every system has these limits")
def test_the_process_can_open_no_file_and_has_neither_time_nor_memory_without_end(plain: Path):
    done = subprocess.run([sys.executable, "-c", LIMITED, plain], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.split() == ["OSError", "MemoryError", "None"]
    assert done.returncode == -signal.SIGXCPU


def test_modules_beside_the_file_or_named_by_the_environment_are_not_run(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("h5py", "numpy", "json", "hdf5_worker", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "json.py"))
    with opened(packed) as found:
        assert read(found, "lzf").sum() == 100
    assert not (tmp_path / "ran").exists()


# --- a process that does not do what it should


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have the process run other code, which can answer(letter, content)."""
    prelude = """
import json, os, signal, sys, time
def answer(letter, content, size=None):
    size = len(content) if size is None else size
    os.write(1, letter + size.to_bytes(8, "little") + content)
"""
    monkeypatch.setattr(hdf5_process, "_MAIN", prelude + code)


READY = "answer(b'R', b'');"
ENTRY: dict[str, Any] = {"dtype": "uint8", "item_bytes": 1, "shape": [4], "offset": None}
GOOD = f"answer(b'=', {json.dumps({'datasets': [ENTRY], 'links': [[['x'], 0]]}).encode()!r});"
NONSENSE = "reading it made libhdf5 say what cannot be"

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
    "an error": (r"answer(b'?', b'no \x1b[31m heap' + b'x' * 999)", r"HDF5 file: no \?\[31m heapx{100,190}\. It may"),
    "an error that is no text": (r"answer(b'?', b'\xff\xfe')", "HDF5 file"),
    "work without end": ("\nwhile True: answer(b'.', b'')", NONSENSE),
    "no memory": ("answer(b'M', b'')", "more memory than a file of its size should"),
    "a refusal of nothing": ("answer(b'!', b'[]')", NONSENSE),
    "a refusal that is no JSON": ("answer(b'!', b'[' * 9999)", NONSENSE),
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
    return {"datasets": [ENTRY | changes], "links": [[["x"], 0]]}


LIES: dict[str, tuple[Any, str]] = {
    "no object": ([], NONSENSE),
    "nothing": ({}, NONSENSE),
    "a number": (3, NONSENSE),
    "links to nothing": ({"datasets": [], "links": [[["x"], 0]]}, NONSENSE),
    "links from the end": ({"datasets": [ENTRY], "links": [[["x"], -1]]}, NONSENSE),
    "a number that is a list": ({"datasets": [ENTRY], "links": [[["x"], []]]}, NONSENSE),
    "a path that is text": ({"datasets": [ENTRY], "links": [["x", 0]]}, NONSENSE),
    "a path of numbers": ({"datasets": [ENTRY], "links": [[[1], 0]]}, NONSENSE),
    "a link of three": ({"datasets": [ENTRY], "links": [[["x"], 0, 1]]}, NONSENSE),
    "a dataset that is a list": ({"datasets": [[]], "links": [[["x"], 0]]}, NONSENSE),
    "a dtype that is a number": (index_of(dtype=3), NONSENSE),
    "a shape that is a number": (index_of(shape=3), NONSENSE),
    "a shape of many axes": (index_of(shape=[1] * 33), NONSENSE),
    "a negative shape": (index_of(shape=[-1]), NONSENSE),
    "a shape of floats": (index_of(shape=[1.0]), NONSENSE),
    "a shape of booleans": (index_of(shape=[True]), NONSENSE),
    "a negative offset": (index_of(offset=-1), NONSENSE),
    "an offset of text": (index_of(offset="1"), NONSENSE),
    "an offset beyond the file": (index_of(offset=1 << 40), r"'/x' in .* reaches beyond the end of the file"),
    "a huge shape": (index_of(shape=[1 << 62, 1 << 62], offset=0), r"'/x' in .* reaches beyond the end of the file"),
    "a huge shape to be read": (index_of(shape=[1 << 62, 1 << 62]), r"'/x' in .* far more than the file has"),
    "an element of another size": (index_of(item_bytes=2), r"'/x' in .* no array of numbers \(uint8\)"),
    "an unknown dtype": (index_of(dtype="object"), r"'/x' in .* no array of numbers \(object\)"),
    "opaque numbers": (index_of(dtype="opaque uint8"), r"'/x' in .* opaque bytes"),
    "the same bytes often": (
        {"datasets": [ENTRY | {"shape": [4000], "offset": 0}] * 2, "links": [[["x"], 0], [["y"], 1]]},
        r"'/y' in .* lies where another dataset lies",
    ),
    "one name twice": (
        {"datasets": [ENTRY] * 2, "links": [[["x"], 0], [["x"], 1]]},
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
def test_values_of_another_size_than_the_tensors_are_an_error(
    plain: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str
):
    run_instead(monkeypatch, READY + GOOD + code)
    with opened(plain) as found, pytest.raises(CorruptError, match=text):
        read(found, "x")


def test_values_that_cannot_be_read_leave_the_others_readable(packed: Path):
    with h5py.File(packed, "a") as file:
        file.create_dataset("bad", (64,), "f8", chunks=(64,), compression="gzip")
        file["bad"].id.write_direct_chunk((0,), b"no zlib stream")
    with opened(packed) as found:
        with pytest.raises(CorruptError, match=r"is not a valid HDF5 file: .*filter returned failure"):
            read(found, "bad")
        assert read(found, "lzf").sum() == 100


# --- a process that cannot be started


def refused_to_start(path: Path) -> str:
    with pytest.raises(ReadError, match=r"cannot be read here: .*Check that `.* -I -c 'import h5py'` works") as caught:
        open_foreign(FileSource(str(path)))
    return str(caught.value)


@pytest.mark.parametrize("executable", [None, "", "/nowhere/python", "/bin/false", "/bin/echo", "/dev/null", "a\0b"])
def test_without_an_interpreter_the_error_says_so(plain: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None):
    monkeypatch.setattr(sys, "executable", executable)
    refused_to_start(plain)


def test_a_frozen_program_is_not_started_again(plain: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "is no Python that could run it" in refused_to_start(plain)
    assert started == []


def test_an_interpreter_that_says_nothing_is_not_waited_for(
    plain: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]
):
    monkeypatch.setattr(hdf5_process, "_START_SECONDS", 0.5)
    run_instead(monkeypatch, "time.sleep(600)")
    refused_to_start(plain)
    assert started[0].returncode == -signal.SIGKILL


def test_no_further_process_or_file_is_an_error_that_says_so(plain: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert "Resource temporarily unavailable" in refused_to_start(plain)


def test_without_h5py_the_error_says_to_install_it(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ReadError, match=r"plain.h5 is an HDF5 file of another program, which h5py is needed for"):
        open_foreign(FileSource(str(plain)))


# --- processes come to an end


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()


def test_no_process_or_descriptor_is_left_behind(packed: Path, plain: Path, started: list[Any]):
    source: Source = FileSource(str(packed))
    before = descriptors()
    open_foreign(source).close()
    lost = open_foreign(source)
    assert read(lost, "lzf").sum() == 100
    del lost
    gc.collect()
    assert descriptors() == before
    source.close()
    with opened(plain):
        assert all(process.returncode is not None for process in started)
    assert len(started) == 3


def test_a_closed_file_is_not_read(packed: Path):
    with opened(packed) as found:
        found.close()
        found.close()
        with pytest.raises(ReadError, match=r"packed.h5 is no longer open here. Open it again"):
            read(found, "lzf")


def test_an_interrupted_read_ends_the_process(packed: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]):
    def interrupt(self: Any, buffer: Any) -> None:
        raise KeyboardInterrupt

    with opened(packed) as found:
        with monkeypatch.context() as patch:
            patch.setattr(hdf5_process.Hdf5Process, "_receive", interrupt)
            with pytest.raises(KeyboardInterrupt):
                read(found, "lzf")
        assert started[0].returncode is not None
        with pytest.raises(ReadError, match=r"Open it again"):
            read(found, "gzip")


def test_an_interrupt_from_the_terminal_is_left_to_the_reader(packed: Path, started: list[Any]):
    with opened(packed) as found:
        started[0].send_signal(signal.SIGINT)
        assert read(found, "lzf").sum() == 100


def test_closing_a_file_while_another_thread_reads_it_is_an_error_there(plain: Path, monkeypatch: pytest.MonkeyPatch):
    run_instead(monkeypatch, READY + GOOD + "time.sleep(600)")
    with opened(plain) as found, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, found, "x")
        time.sleep(0.2)
        found.close()
        with pytest.raises(ReadError, match=r"was closed while it was read|is no longer open here"):
            reading.result(60)


def test_several_threads_can_read_at_once(packed: Path):
    with opened(packed) as found, ThreadPoolExecutor(8) as pool:
        names = list(PACKED) * 20
        for name, array in zip(names, pool.map(lambda name: read(found, name), names), strict=True):
            assert array.tolist() == PACKED[name][0].tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_of_the_reader_cannot_take_its_answers_nor_end_its_process(packed: Path):
    with opened(packed) as found:
        child = os.fork()
        if not child:
            try:
                read(found, "lzf")
            except ReadError:
                found.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert read(found, "lzf").sum() == 100


HANGING_READER = """
import subprocess, sys
from statezoo.checkpoints.formats.hdf5_foreign import open_foreign
from statezoo.checkpoints.source import FileSource
start = subprocess.Popen
def noting(*arguments, **options):
    process = start(*arguments, **options)
    print(process.pid, flush=True)
    return process
subprocess.Popen = noting
found = open_foreign(FileSource(sys.argv[1]))
print("opened", flush=True)
sys.stdin.read()
"""


def is_running(process: int) -> bool:
    """Whether a process is there, and no zombie that nobody in this place collects."""
    try:
        os.kill(process, 0)
        return "Z" not in Path(f"/proc/{process}/stat").read_text().split(")")[1][:3]
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "busy"])
def test_when_the_reader_ends_so_does_the_process(tmp_path: Path, packed: Path, number: signal.Signals, is_idle: bool):
    write_hanging(tmp_path / "hanging.h5")
    path = packed if is_idle else tmp_path / "hanging.h5"
    command = [sys.executable, "-c", HANGING_READER, path]
    with subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        process = int(reader.stdout.readline())
        if is_idle:
            assert reader.stdout.readline() == "opened\n"
        else:
            time.sleep(0.5)
        assert is_running(process)
        reader.send_signal(number)
        reader.wait(60)
    wait_until(lambda: not is_running(process))


WITHOUT_STREAMS = """
import os, sys
from statezoo.checkpoints.formats.hdf5_foreign import open_foreign
from statezoo.checkpoints.source import FileSource
for stream in sys.argv[2]:
    os.close(int(stream))
with_values = open_foreign(FileSource(sys.argv[1]))
assert with_values.read("lzf").sum() == 100
with_values.close()
os._exit(7)
"""


@pytest.mark.parametrize("streams", ["0", "1", "2", "12", "012"])
def test_a_reader_without_standard_streams_reads_all_the_same(packed: Path, streams: str):
    command = [sys.executable, "-c", WITHOUT_STREAMS, packed, streams]
    assert subprocess.run(command, timeout=60).returncode == 7


# --- what runs in the process, in this one


def served(path: Path, *numbers: int) -> list[tuple[bytes, bytes]]:
    """Return the letters and contents that a process would answer."""
    answers = io.BytesIO()
    with path.open("rb") as file:
        hdf5_worker.serve(file.fileno(), numbers, answers, lambda: None)
    answers.seek(0)
    found = []
    while head := answers.read(9):
        found.append((head[:1], answers.read(int.from_bytes(head[1:], "little"))))
    return found


def test_the_process_says_where_datasets_are_and_gives_the_others(packed: Path):
    (letter, index), *values = served(packed, *range(len(PACKED)))
    assert letter == b"="
    content = json.loads(index)
    assert content["links"] == [[[name], number] for number, name in enumerate(sorted(PACKED))]
    assert {entry["offset"] for entry in content["datasets"]} == {None}
    for (letter, value), name in zip(values, sorted(PACKED), strict=True):
        array = PACKED[name][0]
        assert (letter, value) == (b"=", array.astype(array.dtype.newbyteorder("<")).tobytes())


def test_the_process_says_what_it_cannot_read_and_goes_on(packed: Path, plain: Path):
    assert [letter for letter, _ in served(packed, 99, 3)] == [b"=", b"?", b"="]
    plain.write_bytes(plain.read_bytes()[:1000])
    [(letter, text)] = served(plain)
    assert (letter, b"truncated file" in text) == (b"?", True)


def test_the_process_says_now_and_then_that_it_is_still_at_work(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hdf5_worker, "STEP", 5)
    walk = hdf5_worker._Walk(lambda: steps.append(len(walk.datasets)))
    steps: list[int] = []
    with plain.open("rb") as file:
        walk.from_root(hdf5_worker._opened(hdf5_worker._File(file.fileno())))
    # Five links in the root; three datasets and the one link in each of two groups; two datasets more.
    assert steps == [0, 3]


def test_a_long_work_has_time_as_long_as_it_goes_on(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hdf5_process, "_LEAST_SECONDS", 1)
    monkeypatch.setattr(hdf5_process, "_MOST_WAITING", 2)
    monkeypatch.setattr(hdf5_process, "_LEAST_STEP_BYTES", 100)
    run_instead(monkeypatch, READY + "\nfor _ in range(10): time.sleep(0.4); answer(b'.', b'')\n" + GOOD)
    with opened(plain) as found:
        assert list(found.tensors) == ["x"]


def test_the_process_refuses_what_leads_on(plain: Path):
    with h5py.File(plain, "a") as file:
        file["nested/loop"] = file["/nested"]
    assert served(plain) == [(b"!", b'[["nested", "loop"], "is a second link to a group"]')]


def test_a_request_is_a_number_and_the_time_it_may_take(monkeypatch: pytest.MonkeyPatch):
    allowed: list[int] = []
    monkeypatch.setattr(hdf5_worker, "_allow", allowed.append)
    assert list(hdf5_worker._numbers(io.BytesIO(b"3 5\n0 60\n"))) == [3, 0]
    assert allowed == [5, 60]
