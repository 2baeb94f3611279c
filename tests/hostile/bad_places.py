"""Put what is not a good file in place of each file, and call everything that reads it: `python bad_places.py`.

In place of checkpoints, of the files of a history, an entry and a run, and of these folders themselves: nothing, a
folder, a named pipe, a socket, a device, an empty file, a hole of a terabyte, a file or folder without permissions,
links that lead nowhere, to themselves or to /proc, and garbage. Each call returns, or raises an error of ours, within
seconds and in little memory. Started by root, it works as another user, since root may read everything.
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import shutil
import signal
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from statezoo import checkpoints, core, scripts, zoo
from statezoo.checkpoints import History, load_file, load_model, open_checkpoint, read_metadata, save_file
from statezoo.scripts.command import main as command
from statezoo.zoo.loading import find

OURS = (checkpoints.CheckpointError, core.ModuleError, zoo.ZooError)
LIMIT_S = 20
MOST_BYTES = 4 << 30  # of address space, of which the libraries take half
NOBODY = 65534
Calls = dict[str, Callable[[], Any]]


def _bind(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    with contextlib.chdir(path.parent):  # the path of a socket has few characters
        server.bind(path.name)
    server.close()


def _without_permissions(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0)


def _folder_without_permissions(path: Path) -> None:
    path.mkdir()
    path.chmod(0)


def _hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


KINDS: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "socket": _bind,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "empty": Path.touch,
    "hole": _hole,
    "no permissions": _without_permissions,
    "folder, no permissions": _folder_without_permissions,
    "loop": lambda path: path.symlink_to(path.name),
    "dangling": lambda path: path.symlink_to("nowhere"),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "deep": lambda path: path.write_bytes(b"[" * 200_000),
    "/proc": lambda path: path.symlink_to("/proc/self/status"),
}


def place(kind: str, path: Path) -> None:
    """Replace what is at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)


def cli(*words: Any) -> None:
    """Run a command, which must say something printable and end with status 0 or 1."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = command([str(word) for word in words])
    assert status in (0, 1), status
    assert output.getvalue()
    assert all(char.isprintable() or char == "\n" for char in output.getvalue())


def of_files(folder: Path, kind: str) -> Iterator[tuple[str, Calls]]:
    good, out, model = folder / "good.safetensors", folder / "out", core.Linear(2, 2)
    save_file({"w": np.ones((2, 2), np.float32)}, good)
    for name in ("x.safetensors", "x.h5", "x.safetensors.index.json"):
        path = folder / name
        place(kind, path)
        yield (
            name,
            {
                "load_file": lambda path=path: load_file(path),
                "mmap": lambda path=path: load_file(path, mmap=True),
                "open_checkpoint": lambda path=path: open_checkpoint(path),
                "read_metadata": lambda path=path: read_metadata(path),
                "load_model": lambda path=path: load_model(model, path),
                "load_training": lambda path=path: checkpoints.load_training(
                    model, core.optim.SGD([model.weight], 1), path
                ),
                "diff": lambda path=path: checkpoints.diff(good, path),
                "edit": lambda path=path: checkpoints.edit(path, metadata={"a": "b"}),
                "edit to": lambda path=path: checkpoints.edit(good, to=path.with_name("nowhere") / path.name),
                "merge": lambda path=path: checkpoints.merge([good, path], out / "a.safetensors"),
                **{verb: lambda path=path, verb=verb: cli(verb, path) for verb in ("inspect", "verify", "fingerprint")},
                "convert": lambda path=path: cli("convert", path, out / "c.npz"),
                "repair": lambda path=path: cli("repair", path, out / "r.safetensors"),
            },
        )
        place("nothing", path)
    for name in ("y.safetensors", "y.h5", "y.npz"):
        path = folder / name
        place(kind, path)
        yield (
            f"to {name}",
            {
                "convert": lambda path=path: checkpoints.convert(good, path),
                "command": lambda path=path: cli("convert", good, path),
            },
        )


def of_a_history(folder: Path, kind: str) -> Iterator[tuple[str, Calls]]:
    path = folder / "history"
    for name in ("", "history.jsonl", "step-00000002.safetensors", "step-00000003", "step-00000004.h5", "other"):
        place("nothing", path)
        for step in (1, 2):
            History(path, keep_last=5).save(step, {"w": np.ones(2)}, {"loss": 1 / step})
        path.chmod(0o777)
        place(kind, path / name if name else path)
        yield (
            name,
            {
                "latest": lambda: History(path).latest(),
                "best": lambda: History(path, metric="loss", mode="min").best(),
                "log": lambda: History(path).log(),
                "save": lambda: History(path, keep_last=2).save(5, {"w": np.ones(2)}),
            },
        )


def of_an_entry(folder: Path, kind: str) -> Iterator[tuple[str, Calls]]:
    path = folder / "tense-mlp"
    entry, verbs = f"file:{path}", ("info", "card", "verify", "doctor", "verify-zoo")
    for name in (
        "",
        "manifest.json",
        "model.safetensors",
        "model.h5",
        "golden.safetensors",
        "README.md",
        "trajectory.safetensors",
    ):
        place("nothing", path)
        shutil.copytree(find("tense-mlp"), path)
        place(kind, path / name if name else path)
        yield (
            name,
            {
                "load": lambda: zoo.load(entry),
                "load from HDF5": lambda: zoo.load(entry, format="h5"),
                "create_model": lambda: zoo.create_model(entry),
                "trajectory": lambda: zoo.trajectory(entry),
                **{verb: lambda verb=verb: cli(verb, entry) for verb in verbs},
                "predict": lambda: cli("predict", entry, "hablar", "yo"),
            },
        )


def of_a_run(folder: Path, kind: str) -> Iterator[tuple[str, Calls]]:
    path, recipe = folder / "run", zoo.get_recipe("linear-regression").with_settings(epochs=1)
    for name in ("", "run.json", "checkpoint.safetensors", "training.safetensors"):
        place("nothing", path)
        zoo.train(recipe, path)
        if name == "training.safetensors":
            record = json.loads((path / "run.json").read_text()) | {"history": []}
            (path / "run.json").write_text(json.dumps(record))
        path.chmod(0o777)
        place(kind, path / name if name else path)
        yield (
            name,
            {
                "open_run": lambda: zoo.open_run(path),
                "publish": lambda: zoo.publish(path, folder / "out", force=True),
                "train": lambda: zoo.train(recipe, path),
                "resume": lambda: zoo.train(recipe, path, resume=True),
                "command": lambda: cli("train", "linear-regression", "--epochs", "1", "--out", path),
                "publish command": lambda: cli("publish", path, "--zoo", folder / "out"),
            },
        )


WORLDS = {"file": of_files, "history": of_a_history, "entry": of_an_entry, "run": of_a_run}


def _problem_of(call: Callable[[], Any]) -> str | None:
    """Call as nobody. Return what is wrong with how it ended, or None."""
    is_root = os.geteuid() == 0
    if is_root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    signal.alarm(LIMIT_S)
    try:
        call()
        text = ""
    except OURS as error:
        text = str(error)
    except BaseException as error:
        return "".join(traceback.format_exception(error)[-3:])
    finally:
        signal.alarm(0)
        if is_root:
            os.seteuid(0)
            os.setegid(0)
    return None if all(char.isprintable() or char == "\n" for char in text) else f"it says {text!r}"


def _import_everything() -> None:
    """Import all modules: the other user may not read them."""
    for package in (core, checkpoints, zoo, scripts):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("worker", "testing")):
                with contextlib.suppress(ImportError):
                    importlib.import_module(module.name)
    for encoding in ("utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-32-be", "utf-32-le", "utf-8-sig"):  # of JSON
        codecs.lookup(encoding)


def _hang(*_: object) -> None:
    raise TimeoutError(f"it takes longer than {LIMIT_S} s")


def main(kinds: list[str]) -> None:
    """Try some kinds, by default all."""
    warnings.simplefilter("ignore")
    _import_everything()
    signal.signal(signal.SIGALRM, _hang)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    calls, problems = 0, []
    for world, cases in WORLDS.items():
        for kind in kinds or KINDS:
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                (folder / "out").mkdir()
                for path in (folder, folder / "out"):
                    path.chmod(0o777)
                for name, these in cases(folder, kind):
                    for what, call in these.items():
                        calls += 1
                        if (problem := _problem_of(call)) is not None:
                            problems.append(f"{world} {name}, {kind}, {what}: {problem}")
                with contextlib.suppress(OSError):
                    os.chmod(folder, 0o777)
    print(*problems, f"{calls:,} calls, {len(problems)} problems", sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main(sys.argv[1:])
