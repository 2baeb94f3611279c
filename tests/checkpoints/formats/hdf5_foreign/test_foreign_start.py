"""If the libhdf5 process cannot be started, the error says so."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from foreign_files import run_instead

from statezoo.checkpoints import ReadError
from statezoo.checkpoints.formats.hdf5 import process as hdf5_process
from statezoo.checkpoints.formats.hdf5.foreign import open_foreign
from statezoo.checkpoints.storage.source import FileSource


def refused_to_start(path: Path) -> str:
    with pytest.raises(ReadError, match=r"cannot be read here: .*Check that `.* -I -c 'import h5py'` works") as caught:
        open_foreign(FileSource(str(path)))
    return str(caught.value)


@pytest.mark.parametrize("executable", [None, "", "/nowhere/python", "/bin/false", "/bin/echo", "/dev/null", "a\0b"])
def test_a_missing_interpreter_is_an_error_that_says_so(
    plain: Path, monkeypatch: pytest.MonkeyPatch, executable: str | None
):
    monkeypatch.setattr(sys, "executable", executable)
    refused_to_start(plain)


def test_a_frozen_program_is_not_started_again(plain: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert "is no Python that could run it" in refused_to_start(plain)
    assert started == []


def test_an_interpreter_that_never_answers_times_out(plain: Path, monkeypatch: pytest.MonkeyPatch, started: list[Any]):
    monkeypatch.setattr(hdf5_process, "_START_SECONDS", 0.5)
    run_instead(monkeypatch, "time.sleep(600)")
    refused_to_start(plain)
    assert started[0].returncode == -signal.SIGKILL


def test_running_out_of_processes_or_files_is_an_error_that_says_so(plain: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: Any, **options: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert "Resource temporarily unavailable" in refused_to_start(plain)


def test_without_h5py_the_error_says_to_install_it(plain: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ReadError, match=r"plain.h5 is an HDF5 file of another program. Install h5py to read it"):
        open_foreign(FileSource(str(plain)))
