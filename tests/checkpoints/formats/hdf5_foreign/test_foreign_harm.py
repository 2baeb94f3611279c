"""Files that harm libhdf5: they harm only its own restricted process, and are an error."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foreign_files import opened, read, write_hanging

from statezoo.checkpoints import CorruptError, ReadError
from statezoo.checkpoints.formats.hdf5 import process as hdf5_process
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource


def write_crashing(path: Path) -> None:
    """Write a chunk with a checksum that claims to have no bytes: libhdf5 2.0.0 reads before its start."""
    with h5py.File(path, "w", libver="earliest") as file:
        dataset = file.create_dataset("x", data=np.arange(40), chunks=(40,), fletcher32=True)
        key = dataset.id.get_chunk_info(0).size.to_bytes(4, "little") + bytes(12)
    content = path.read_bytes()
    assert content.count(key) == 1
    path.write_bytes(content.replace(key, bytes(16)))


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
def test_a_file_that_hangs_libhdf5_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any], limit: str
):
    monkeypatch.setattr(hdf5_process, "_LEAST_SECONDS", 1)
    if limit == "_MOST_WAITING":  # elapsed time rather than processor time
        monkeypatch.setattr(hdf5_process, "_LEAST_SECONDS", 60)
        monkeypatch.setattr(hdf5_process, limit, 1 / 30)
    write_hanging(tmp_path / "x.h5")
    with pytest.raises(CorruptError, match=r"is not a valid HDF5 file: reading it took longer than [12](\.0)? s"):
        open_foreign(FileSource(str(tmp_path / "x.h5")))
    assert started[0].returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_data_that_expands_far_beyond_the_size_of_the_file_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(hdf5_process, "_LEAST_MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr(
        "statezoo.checkpoints.formats.hdf5.foreign.most_expanded_bytes", lambda size: 128 * size + (1 << 26)
    )
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


LIMITED = """
import sys
from statezoo.checkpoints.formats.hdf5 import worker as hdf5_worker
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
def test_the_process_cannot_open_files_and_has_limits_on_time_and_memory(plain: Path):
    done = subprocess.run([sys.executable, "-c", LIMITED, plain], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.stdout.split() == ["OSError", "MemoryError", "None"]
    assert done.returncode == -signal.SIGXCPU


def test_modules_next_to_the_file_or_named_by_the_environment_are_not_run(
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
