"""Training in a fresh process, which is pinned on request."""

import multiprocessing.spawn as spawn
import os
import pickle
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from ...checkpoints.storage.folders import make_folders
from ..errors import RunError, ZooError
from ..registry import get_architecture
from .recipe import Recipe
from .run.determinism import pinned_environment
from .run.reporting import ProgressBar
from .train import Run, open_run, train

# Ctrl-C is for the parent, which ends the child. sys.path comes first: the project may not be importable without it.
_START = (
    "import pickle, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    f"sys.path[:] = pickle.load(sys.stdin.buffer); from {__name__} import main; main()"
)
_in_child = False


class _Job(NamedTuple):
    """The job of a child process. recipe: pickled with the class of its model, so that unpickling registers both."""

    main: dict[str, Any]
    recipe: bytes
    folder: str
    outcome: str


def train_apart(recipe: Recipe, folder: Path, pinned: bool = True) -> Run:
    """Run a recipe to its end in a fresh process, into a folder that does not exist. Return the finished run.

    pinned: whether the process starts with `pinned_environment()` or with the environment of this one. It shows its
    progress if stderr is a terminal, and ends when this process ends, however that happens.

    Raises RunError if the recipe cannot be passed to a process or the process dies, and any error of the training.
    """
    if _in_child:
        raise RunError(
            "The program that defines the recipe starts to train it again when a fresh process imports the program. "
            'Put what the program does under `if __name__ == "__main__":`.'
        )
    make_folders(folder.parent)
    outcome = folder.parent / f"{folder.name}-outcome.pickle"
    job = _Job(_main_module(recipe), _pickled(recipe), str(folder), str(outcome))
    status = _run(pickle.dumps(sys.path) + pickle.dumps(tuple(job)), pinned_environment() if pinned else None)
    if not outcome.exists():
        raise RunError(
            f"The process that ran the recipe of {recipe.name} ended with status {status} before it finished."
        )
    error = pickle.loads(outcome.read_bytes())
    if error is not None:
        raise error
    return open_run(folder)


def _run(message: bytes, environ: dict[str, str] | None) -> int:
    """Start a child, send it a message, and return its exit status. No exception leaves it running."""
    with subprocess.Popen([sys.executable, "-c", _START], stdin=subprocess.PIPE, env=environ) as process:
        assert process.stdin is not None
        try:
            try:
                process.stdin.write(message)
                process.stdin.flush()
            except BrokenPipeError:
                pass  # its exit status says more
            return process.wait()  # stdin stays open: the child ends when it is closed
        except BaseException:
            process.kill()
            raise


def _pickled(recipe: Recipe) -> bytes:
    try:
        return pickle.dumps((get_architecture(recipe.architecture), recipe))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RunError(
            f"The recipe of {recipe.name} cannot be passed to another process: {error}. "
            "Define it and its model at the top level of a module."
        ) from error


def _main_module(recipe: Recipe) -> dict[str, Any]:
    """Return what a child needs to import this program; empty if it defines neither the recipe nor the model."""
    if "__main__" not in (type(recipe).__module__, get_architecture(recipe.architecture).__module__):
        return {}
    found = spawn.get_preparation_data("training")
    return {key: value for key, value in found.items() if key.startswith(("init_main", "sys_argv"))}


def main() -> None:
    """Read a job from stdin and run it. Write None, or the error it raised, to the file `outcome`."""
    global _in_child
    job = _Job(*pickle.load(sys.stdin.buffer))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    error: BaseException | None = None
    try:
        _in_child = True
        _train(_imported(job), job.folder)
    except BaseException as reason:
        error = reason
    Path(job.outcome).write_bytes(_portable(error))


def _imported(job: _Job) -> Recipe:
    spawn.prepare(job.main)
    try:
        return pickle.loads(job.recipe)[1]
    except (AttributeError, ImportError) as error:
        raise RunError(
            f"A fresh process cannot import the recipe: {error}. Define it in a module, or in the file of a program."
        ) from error


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing more is sent: this returns when the parent closes its end
    os._exit(1)


def _train(recipe: Recipe, folder: str) -> None:
    if sys.stderr is None or not sys.stderr.isatty():
        train(recipe, folder)
        return
    with ProgressBar(recipe.name, recipe.epochs) as progress:
        train(recipe, folder, progress.epoch, progress.step)


def _portable(error: BaseException | None) -> bytes:
    """Pickle an error with its traceback as a note; an error that cannot be pickled becomes a RunError."""
    if error is not None and not isinstance(error, ZooError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        message = pickle.dumps(error)
        pickle.loads(message)
    except Exception:
        return pickle.dumps(RunError(f"{type(error).__name__}: {error}"))
    return message
