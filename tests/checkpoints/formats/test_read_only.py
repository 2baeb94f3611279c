"""A read-only format opens with every function, and saving in it is an error that says what to do instead."""

import io
from pathlib import Path

import numpy as np
import pytest
import toy

from statezoo.checkpoints import (
    CheckpointError,
    CorruptError,
    FormatError,
    History,
    MissingFileError,
    convert,
    diff,
    fingerprint,
    inspect,
    load_file,
    load_model,
    merge,
    open_checkpoint,
    repair,
    save_file,
    save_model,
    verify,
)
from statezoo.checkpoints import formats as registry
from statezoo.checkpoints.formats import Format, Opened, known_formats, register, written_formats
from statezoo.checkpoints.storage.source import Source
from statezoo.checkpoints.testing import assert_roundtrip
from statezoo.core import Linear

STATE = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(2, np.float32)}
REFUSED = (
    r"is toy, which is read but not written\. Save to \.safetensors\b.* or \.\w+, or pass the arrays to toy\.save\."
)


class ReadOnly:
    """The codec of the toy format without what writing needs."""

    matches = staticmethod(toy.matches)
    open_source = staticmethod(toy.open_source)


@pytest.fixture(autouse=True)
def _formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FORMATS", dict(registry._FORMATS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file of a read-only format."""
    form = Format("writable", (".toy",), toy)
    registry._FORMATS["writable"] = form
    save_file(STATE, tmp_path / "a.toy", {"epoch": "7"})
    del registry._FORMATS["writable"]
    register(Format("toy", (".toy",), ReadOnly(), writes=False, instead="pass the arrays to toy.save"))
    return tmp_path / "a.toy"


def test_every_function_that_reads_opens_a_read_only_format(path: Path, tmp_path: Path):
    assert inspect(path).format == "toy"
    assert diff(path, STATE).same
    assert verify(path).intact
    assert fingerprint(path) == fingerprint(STATE)
    assert load_file(path.read_bytes()).keys() == STATE.keys()
    with open_checkpoint(path) as checkpoint:
        assert checkpoint["weight"][1, 2] == 5
    model = Linear(3, 2)
    load_model(model, path)
    assert model.weight.data.tolist() == STATE["weight"].tolist()
    for target in ("b.safetensors", "b.h5"):
        convert(path, tmp_path / target)
        assert diff(path, tmp_path / target).same
    merge([path, path], tmp_path / "mean.h5")
    assert repair(path, tmp_path / "c.h5").complete


def test_saving_in_a_read_only_format_says_what_to_do_and_changes_nothing(path: Path):
    before = path.read_bytes()
    for save in (
        lambda: save_file(STATE, path),
        lambda: save_file({"bad": object()}, path),
        lambda: save_file(STATE, path, max_shard_size=10),
        lambda: save_file(STATE, io.BytesIO(), format="toy"),
        lambda: save_model(Linear(3, 2), path),
        lambda: convert(path, path),
        lambda: repair(path, path),
        lambda: merge([path, path], path),
        lambda: assert_roundtrip(STATE, ["toy"]),
    ):
        with pytest.raises((FormatError, AssertionError), match=REFUSED):
            save()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.toy"]


def test_a_history_in_a_read_only_format_is_refused_before_its_folder_is_made(path: Path, tmp_path: Path):
    with pytest.raises(FormatError, match=REFUSED):
        History(tmp_path / "run", format="toy")
    assert not (tmp_path / "run").exists()


def test_a_round_trip_without_formats_leaves_out_read_only_ones(path: Path):
    assert_roundtrip(STATE)
    assert "toy" in {form.name for form in known_formats()}
    assert "toy" not in {form.name for form in written_formats()}


def test_a_damaged_file_of_a_read_only_format_is_not_repaired(path: Path, tmp_path: Path):
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptError, match=r"a\.toy should take"):
        repair(path, tmp_path / "b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_a_folder_with_one_file_of_a_read_only_format_is_a_checkpoint(path: Path):
    assert load_file(path.parent).keys() == STATE.keys()


def test_a_file_that_is_written_takes_precedence_in_a_folder_over_read_only_ones(path: Path):
    save_file({"other": np.ones(1)}, path.parent / "model.safetensors")
    assert load_file(path.parent).keys() == {"other"}


def test_the_module_of_a_format_is_not_imported_to_look_at_a_file_that_starts_differently(path: Path):
    register(Format("absent", (".absent",), "no_such_module", writes=False, starts=(b"ABSENT", b"absent")))
    assert inspect(path.read_bytes()).format == "toy"
    with pytest.raises(CheckpointError, match="not a valid safetensors file"):
        load_file(b"something else")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_file(b"ABSENT content")


def test_a_format_that_misses_a_file_of_its_own_is_an_error_and_not_an_endless_loop(path: Path):
    class Incomplete(ReadOnly):
        looks = 0

        def open_source(self, source: Source) -> Opened:
            self.looks += 1
            assert self.looks < 1000, "the file is opened without end"
            raise MissingFileError("its tensors are in a file that is missing.")

    register(Format("incomplete", (".incomplete",), Incomplete(), writes=False))
    path = path.rename(path.with_suffix(".incomplete"))
    with pytest.raises(MissingFileError, match=r"its tensors are in a file that is missing"):
        load_file(path)
