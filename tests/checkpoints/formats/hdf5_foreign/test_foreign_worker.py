"""HDF5 files that libhdf5 has to read in a process of its own: what runs there, run in this one."""

import io
import json
from pathlib import Path

import h5py
import pytest
from foreign_files import GOOD, PACKED, READY, opened, run_instead

from statezoo.checkpoints.formats.hdf5 import process as hdf5_process
from statezoo.checkpoints.formats.hdf5 import worker as hdf5_worker


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
