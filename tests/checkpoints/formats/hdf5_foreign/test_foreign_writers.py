"""A foreign file that a program is still writing is refused, as h5py refuses it, and what a killed program left too."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5f, h5p  # pyright: ignore[reportAttributeAccessIssue]

from statezoo.checkpoints import CorruptError, ReadError, inspect, load_file, open_checkpoint, repair

fcntl = pytest.importorskip("fcntl")
WRITER = """
import sys, h5py, numpy as np
path, libver, mode = sys.argv[1:]
file = h5py.File(path, "w", libver=libver)
file.create_dataset("x", data=np.arange(10.0), chunks=(5,), maxshape=(None,))
if mode == "swmr":
    file.swmr_mode = True
file.flush()
print("written", flush=True)
sys.stdin.readline()
file.close()
"""


@pytest.mark.parametrize(
    ("libver", "mode", "error", "left"),
    [
        ("earliest", "", ReadError, None),
        ("latest", "", ReadError, CorruptError),
        ("latest", "swmr", CorruptError, CorruptError),
    ],
)
def test_a_file_that_is_being_written_is_refused(
    tmp_path: Path, libver: str, mode: str, error: type[Exception], left: type[Exception] | None
):
    path = tmp_path / "x.h5"
    command = [sys.executable, "-c", WRITER, str(path), libver, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for read in (load_file, inspect, open_checkpoint):
            with pytest.raises(error, match=r"open for writing in another program|was not closed by the program"):
                read(path)
        with pytest.raises(OSError, match=r"[Uu]nable"):
            h5py.File(path)
        writer.kill()
    if left is None:
        assert load_file(path)["x"].tolist() == list(range(10))
        return
    with pytest.raises(left, match=r"or remove the mark with `h5clear"):
        load_file(path)
    assert repair(path, tmp_path / "repaired.h5").saved == ("x",)
    assert load_file(tmp_path / "repaired.h5")["x"].tolist() == list(range(10))


def test_a_program_can_write_to_a_file_while_it_is_open_here(tmp_path: Path):
    with h5py.File(path := tmp_path / "x.h5", "w") as file:
        file["x"] = np.arange(10.0)
    with open_checkpoint(path) as opened, h5py.File(path, "r+") as file:  # a save of Keras must not fail
        assert "x" in file
        assert opened["x"][0] == 0


@pytest.mark.parametrize("sizes", [(8, 8), (4, 4), (2, 8)])
@pytest.mark.parametrize("user_block_bytes", [0, 512, 2048])
@pytest.mark.parametrize("libver", ["earliest", "v110", "latest"])
def test_a_file_that_was_cut_off_says_how_much_is_missing(
    tmp_path: Path, sizes: tuple[int, int], user_block_bytes: int, libver: str
):
    create, access = h5p.create(h5p.FILE_CREATE), h5p.create(h5p.FILE_ACCESS)
    lowest = {"earliest": h5f.LIBVER_EARLIEST, "v110": h5f.LIBVER_V110, "latest": h5f.LIBVER_LATEST}[libver]
    access.set_libver_bounds(lowest, h5f.LIBVER_LATEST)
    create.set_userblock(user_block_bytes)
    create.set_sizes(*sizes)
    path = tmp_path / "x.h5"
    with h5py.File(h5f.create(str(path).encode(), h5f.ACC_TRUNC, create, access)) as file:
        file["x"] = np.arange(100.0)
    content = path.read_bytes()
    assert load_file(path)["x"].tolist() == list(range(100))
    path.write_bytes(content[:-100])
    with pytest.raises(
        CorruptError,
        match=rf"It was cut off: {len(content):,} bytes were written, and {len(content) - 100:,} are there",
    ):
        load_file(path)
