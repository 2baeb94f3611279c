"""The code of the libhdf5 process, run in this process."""

import io
import json
import os
from pathlib import Path
from typing import BinaryIO

import h5py
import pytest
from foreign_files import GOOD, PACKED, READY, opened, run_instead

from statezoo.checkpoints.formats.hdf5 import process as hdf5_process
from statezoo.checkpoints.formats.hdf5 import walk as walking
from statezoo.checkpoints.formats.hdf5 import worker as hdf5_worker
from statezoo.checkpoints.formats.hdf5.walk import Walk


def as_libhdf5_reads(file: BinaryIO) -> hdf5_worker.File:
    return hdf5_worker.File(file.fileno(), 0, os.fstat(file.fileno()).st_size)


def served(path: Path, *numbers: int) -> list[tuple[bytes, bytes]]:
    """Return the letters and contents that a process would answer."""
    answers = io.BytesIO()
    with path.open("rb") as file:
        hdf5_worker.serve(as_libhdf5_reads(file), numbers, answers, Walk(lambda: None))
    answers.seek(0)
    found = []
    while head := answers.read(9):
        found.append((head[:1], answers.read(int.from_bytes(head[1:], "little"))))
    return found


def test_the_process_returns_offsets_or_values_of_datasets(packed: Path):
    (letter, index), *values = served(packed, *range(len(PACKED)))
    assert letter == b"="
    content = json.loads(index)
    assert content["links"] == [[[name], number] for number, name in enumerate(sorted(PACKED))]
    assert {entry["offset"] for entry in content["datasets"]} == {None}
    for (letter, value), name in zip(values, sorted(PACKED), strict=True):
        array = PACKED[name][0]
        assert (letter, value) == (b"=", array.astype(array.dtype.newbyteorder("<")).tobytes())


def test_the_process_reports_what_it_cannot_read_and_continues(packed: Path, plain: Path):
    assert [letter for letter, _ in served(packed, 99, 3)] == [b"=", b"?", b"="]
    plain.write_bytes(plain.read_bytes()[:1000])
    [(letter, text)] = served(plain)
    assert (letter, b"truncated file" in text) == (b"?", True)


def test_the_process_reports_regularly_that_it_is_still_working(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(walking, "STEP", 5)
    walk = Walk(lambda: steps.append(len(walk.datasets)))
    steps: list[int] = []
    with plain.open("rb") as file:
        walk.from_root(hdf5_worker.root_of(as_libhdf5_reads(file)))
    # Five links in the root; three datasets and one link in each of two groups; two more datasets.
    assert steps == [0, 3]


def test_long_work_is_not_cut_short_while_it_makes_progress(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hdf5_process, "_LEAST_SECONDS", 1)
    monkeypatch.setattr(hdf5_process, "_MOST_WAITING", 2)
    monkeypatch.setattr(hdf5_process, "_LEAST_STEP_BYTES", 100)
    run_instead(monkeypatch, READY + "\nfor _ in range(10): time.sleep(0.4); answer(b'.', b'')\n" + GOOD)
    with opened(plain) as found:
        assert list(found.tensors) == ["x"]


def test_the_process_follows_no_circular_links(plain: Path):
    with h5py.File(plain, "a") as file:
        file["nested/loop"] = file["/nested"]
    ((letter, index),) = served(plain)
    assert (letter, json.loads(index)["unsupported"]) == (
        b"=",
        [[["nested", "loop"], "it is a second link to a group"]],
    )


def test_a_module_named_worker_elsewhere_is_not_run(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = f"open({str(tmp_path / 'ran')!r}, 'w'); raise SystemExit(9)"
    for name in ("worker", "walk", "statezoo_hdf5"):
        (tmp_path / f"{name}.py").write_text(code)
    folders = hdf5_process._folders
    monkeypatch.setattr(hdf5_process, "_folders", lambda source: [*folders(source), str(tmp_path)])
    # First on the path of the process, before every folder passed to it.
    run_instead(monkeypatch, f"sys.path.insert(0, {str(tmp_path)!r})\n{hdf5_process._MAIN}")
    with opened(plain) as found:
        assert "scalar" in found.tensors
    assert not (tmp_path / "ran").exists()


def test_a_request_is_a_number_and_a_time_limit(monkeypatch: pytest.MonkeyPatch):
    allowed: list[int] = []
    monkeypatch.setattr(hdf5_worker, "_allow", allowed.append)
    assert list(hdf5_worker._numbers(io.BytesIO(b"3 5\n0 60\n"))) == [3, 0]
    assert allowed == [5, 60]
