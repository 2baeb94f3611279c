"""The folder of a run: its record, the weights after its last epoch, and while it is not finished, its whole state."""

import json
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....checkpoints import FormatError, inspect, save_model
from ....checkpoints.errors import LockedError
from ....checkpoints.formats import format_named, known_formats
from ....checkpoints.storage import durable
from ....checkpoints.storage.locks import locked
from ....core import Module
from ...errors import RunError, UnknownNameError, ZooError
from ..recipe import Recipe, get_recipe

RUN = "run.json"

Row = dict[str, float]


@dataclass
class Made:
    """How the weights of a run came about: in which environment, in how many steps of the optimizer, in what time."""

    environment: dict[str, str]
    steps: int = 0
    wall_time_s: float = 0.0


@dataclass(frozen=True)
class Record:
    """What run.json says: the recipe with its settings, the format of the checkpoints, and how far it has come."""

    recipe: Recipe
    format: str
    history: list[Row]
    fingerprint: str | None = None  # of the weights after the last epoch in history
    made: Made | None = None

    @property
    def finished(self) -> bool:
        """Whether all epochs have been trained."""
        return len(self.history) == self.recipe.epochs

    def text(self) -> str:
        """The text of run.json."""
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
    """Where the files of a run are. state: all that is needed to go on with it, removed when it has finished."""

    path: Path
    format: str

    @property
    def checkpoint(self) -> Path:
        return self.path / f"checkpoint{format_named(self.format).suffix}"

    @property
    def state(self) -> Path:
        return self.path / f"training{format_named(self.format).suffix}"

    def keep(self, recipe: Recipe, model: Module, history: list[Row], made: Made) -> None:
        """Keep the weights after an epoch, and the record."""
        save_model(model, self.checkpoint)
        write_record(self.path, Record(recipe, self.format, history, inspect(self.checkpoint).fingerprint, made))


def resume_command(recipe: Recipe, folder: Path) -> str:
    """The command line that goes on with a run."""
    return f"python scripts/train.py {recipe.name} --out {shlex.quote(str(folder))} --resume"


def write_record(folder: Path, record: Record) -> None:
    """Put run.json in place, whole or not at all."""
    with durable.replace(str(folder / RUN)) as descriptor:
        durable.write_all(descriptor, record.text().encode(), 0)


def read_record(folder: Path) -> Record:
    """What run.json says. Raises RunError if there is none, or it is none."""
    path = folder / RUN
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        made: dict[str, Any] | None = content["made"]  # None, before the first epoch has ended
        record = Record(
            recipe=get_recipe(content["recipe"]).with_settings(**content["settings"]),
            format=format_named(content["format"]).name,
            history=[{name: _number(value) for name, value in row.items()} for row in content["history"]],
            fingerprint=content["fingerprint"],
            made=None if made is None else Made(**made),
        )
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} holds no run ({RUN} is missing); make one with scripts/train.py NAME") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; remove it, or name another folder") from error
    except UnknownNameError:
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, ZooError) as error:
        raise RunError(f"{path} is not the record of a run: {error}; train into another folder") from error
    return record


def recorded_settings(folder: str | Path) -> dict[str, Any]:
    """The settings of the run in a folder; none if it holds no run."""
    return read_record(Path(folder)).recipe.settings if (Path(folder) / RUN).exists() else {}


@contextmanager
def claimed(out: Path, recipe: Recipe, resume: bool, format: str) -> Iterator[Record]:
    """Make the folder this process's own, for a new run or one that goes on; another process is refused meanwhile.

    A new run is of that format, one that goes on keeps its own. Raises RunError if the folder holds a run and resume
    is False, or one of another recipe or of other settings, or if it cannot be made.
    """
    try:
        format = format_named(format).name
    except FormatError as error:
        known = " or ".join(form.name for form in known_formats())
        raise RunError(f"the format of a run is {known}, not {format!r}") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out} cannot be a folder: {error.strerror}; name another one with --out") from error
    if not resume:
        _refuse_run(out)
    with _locked(out):
        if resume and (out / RUN).exists():
            record = read_record(out)
            _refuse_other(out, record.recipe, recipe)
        else:
            _refuse_run(out)
            record = Record(recipe, format, [])
            write_record(out, record)
        yield record


def _refuse_run(out: Path) -> None:
    if not (out / RUN).exists():
        return
    record = read_record(out)
    if record.finished:
        raise RunError(f"{out} already holds a finished run; name another folder with --out, or remove it")
    raise RunError(
        f"{out} already holds a run; go on with: {resume_command(record.recipe, out)}\n"
        "Or name another folder with --out, or remove it"
    )


def _refuse_other(out: Path, recorded: Recipe, asked: Recipe) -> None:
    """Raise RunError naming in what the recorded run is not the one that was asked for."""
    if recorded.name != asked.name:
        raise RunError(f"{out} holds a run of {recorded.name}, not of {asked.name}; name another folder with --out")
    other = [
        f"{key} {recorded.settings[key]!r}, not {value!r}"
        for key, value in asked.settings.items()
        if recorded.settings[key] != value
    ]
    if other:
        raise RunError(
            f"{out} holds a run with {'; '.join(other)}; resume it with its own settings, or name another folder "
            "with --out"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder. Raises RunError if another process holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, wait_s=0))
        except LockedError as error:
            raise RunError(
                f"another process is training into {folder}; wait for it, or name another --out\n{error}"
            ) from None
        yield


def _number(value: Any) -> float:
    """An epoch stays an int, so that a record that is written again has the same bytes."""
    return value if type(value) is int else float(value)
