"""The folder of a run: its record, the weights after the last epoch and, until the run is finished, its full state."""

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ....checkpoints import FormatError, inspect, save_model
from ....checkpoints.formats import format_named, refuse_read_only, written_formats
from ....checkpoints.storage import durable
from ....checkpoints.storage.folders import make_folders
from ....core import Module
from ...errors import RunError, UnfinishedRunError, UnknownNameError, ZooError
from ..recipe import Recipe, get_recipe
from .claim import claim

RUN = "run.json"
# Enough for a million epochs.
_MOST_BYTES = 100_000_000

Row = dict[str, float]


@dataclass
class Made:
    """How the weights of a run were made: the environment, the optimizer's steps, the time.

    first_epoch: the fingerprint of the weights after the first epoch, "" before its end.
    """

    environment: dict[str, str]
    steps: int = 0
    wall_time_s: float = 0.0
    first_epoch: str = ""


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json: the recipe with its settings, the format of the checkpoints, and the finished epochs."""

    recipe: Recipe
    format: str
    history: list[Row]
    fingerprint: str | None = None  # of the weights after the last epoch in history
    made: Made | None = None

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained."""
        return len(self.history) == self.recipe.epochs

    def text(self) -> str:
        """Return the text of run.json."""
        record = {
            "recipe": self.recipe.name,
            "settings": self.recipe.settings,
            "format": self.format,
            "fingerprint": self.fingerprint,
            "made": self.made and asdict(self.made),
            "history": self.history,
        }
        return json.dumps(record, indent=1) + "\n"


@dataclass(frozen=True)
class RunFolder:
    """The files of a run. state: the file that is needed to resume it, removed when the run is finished."""

    path: Path
    format: str

    @property
    def checkpoint(self) -> Path:
        return self.path / f"checkpoint{format_named(self.format).suffix}"

    @property
    def state(self) -> Path:
        return self.path / f"training{format_named(self.format).suffix}"

    def keep(self, recipe: Recipe, model: Module, history: list[Row], made: Made) -> None:
        """Save the weights after an epoch, and the record."""
        save_model(model, self.checkpoint)
        write_record(self.path, RunRecord(recipe, self.format, history, inspect(self.checkpoint).fingerprint, made))


def write_record(folder: Path, record: RunRecord) -> None:
    """Replace run.json atomically."""
    with durable.replace(str(folder / RUN)) as descriptor:
        durable.write_all(descriptor, record.text().encode(), 0)


def read_record(folder: Path) -> RunRecord:
    """Read run.json. Raises RunError if it is missing or invalid."""
    record = recorded(folder)
    if record is None:
        raise RunError(f"{folder} does not hold a run: {RUN} is missing. Train into it first.")
    return record


def recorded(folder: Path) -> RunRecord | None:
    """Read run.json. Return None if it is missing. Raises RunError if it cannot be read or is invalid."""
    path = folder / RUN
    text = _text_of(path)
    if text is None:
        return None
    try:
        content: dict[str, Any] = json.loads(text)
        made: dict[str, Any] | None = content["made"]  # None, before the first epoch has ended
        return RunRecord(
            recipe=_with_recorded(get_recipe(content["recipe"]), content["settings"]),
            format=format_named(content["format"]).name,
            history=[{name: _number(value) for name, value in row.items()} for row in content["history"]],
            fingerprint=content["fingerprint"],
            made=None if made is None else _made(made),
        )
    except UnknownNameError:
        raise
    except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError, ZooError) as error:
        raise RunError(f"{path} is not the record of a run: {error}. Train into another folder.") from error


def _made(content: dict[str, Any]) -> Made:
    if unknown := content.keys() - {one.name for one in fields(Made)}:
        raise ValueError(f"'made' has a field {min(unknown)!r:.60}, which no run records")
    return Made(**content)


def _with_recorded(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    if unknown := settings.keys() - recipe.settings.keys():
        raise ValueError(f"it has a setting {min(unknown)!r:.60}, which no recipe has")
    return recipe.with_settings(**settings)


def _text_of(path: Path) -> bytes | None:
    """Return the content of run.json, or None if it is missing. Raises RunError if it cannot be read."""
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a named pipe could block forever
            raise RunError(f"{path} is not a regular file. Remove it, or choose another folder.")
        if status.st_size > _MOST_BYTES:
            raise RunError(f"{path} has {status.st_size:,} bytes; the record of a run has at most {_MOST_BYTES:,}.")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Remove it, or choose another folder.") from error


def recorded_settings(folder: str | Path) -> dict[str, Any]:
    """Return the settings of the run in a folder; empty if it does not hold a run."""
    record = recorded(Path(folder))
    return record.recipe.settings if record else {}


@contextmanager
def claimed(out: Path, recipe: Recipe, resume: bool, format: str) -> Iterator[RunRecord]:
    """Yield the record of a run, new or resumed, while its folder is locked against other processes.

    format: the format of a new run's checkpoints; a resumed run keeps its own. Raises RunError if the folder holds a
    run and resume is False, if it holds a run with another recipe or other settings, or if it cannot be created.
    """
    try:
        form = format_named(format)
        refuse_read_only(form, format)
        format = form.name
    except FormatError as error:
        *others, last = [form.name for form in written_formats()]
        raise RunError(f"The format of a run must be {', '.join(others)} or {last}, not {format!r}.") from error
    try:
        make_folders(out)
    except OSError as error:
        raise RunError(f"{out} cannot be created: {error.strerror}. Choose another folder.") from error
    if not resume:
        _refuse_run(out)
    with claim(out, "training into", wait_s=0):
        record = recorded(out) if resume else None
        if record is not None:
            _refuse_other(out, record.recipe, recipe)
        else:
            _refuse_run(out)
            record = RunRecord(recipe, format, [])
            write_record(out, record)
        yield record


def _refuse_run(out: Path) -> None:
    record = recorded(out)
    if record is None:
        return
    if record.finished:
        raise RunError(f"{out} already holds a finished run. Choose another folder, or remove it.")
    problem = f"{out} already holds a run, at epoch {len(record.history)} of {record.recipe.epochs}."
    raise UnfinishedRunError(problem, record.recipe.name, out)


def _refuse_other(out: Path, recorded: Recipe, asked: Recipe) -> None:
    """Raise RunError naming every difference between the recorded run and the requested one."""
    if recorded.name != asked.name:
        raise RunError(f"{out} holds a run of {recorded.name}, not of {asked.name}. Choose another folder.")
    other = [
        f"{key} {recorded.settings[key]!r}, not {value!r}"
        for key, value in asked.settings.items()
        if recorded.settings[key] != value
    ]
    if other:
        raise RunError(
            f"{out} holds a run with {'; '.join(other)}. Resume it with its own settings, or choose another folder."
        )


def _number(value: Any) -> float:
    """Return an epoch as an int and any other number as a float, so that a rewritten record has the same bytes."""
    return value if type(value) is int else float(value)
