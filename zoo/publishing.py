"""Publishing: a finished run becomes an entry, complete and checked before anyone can see it."""

import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import checkpoints
from ..checkpoints import save_file, save_model
from ..core import Module
from .data import Split
from .entry import CARD, GOLDEN, MANIFEST, MANIFEST_VERSION, WEIGHTS, describe_files
from .environment import environment
from .errors import RunError
from .golden import golden_examples, golden_values
from .model_card import render_card
from .pictures import draw_curves, save_picture
from .training import Run, evaluate, open_run
from .verification import verify_files

LICENCE = "Apache-2.0"


def publish(run: str | Path, zoo: str | Path | None = None, force: bool = False) -> Path:
    """Publish a finished run as an entry in the folder `zoo`; the path of the entry's folder.

    zoo: by default the folder of the architecture's own module, where statezoo keeps its entries.

    Evaluates the model, writes weights in both formats, golden values, pictures, card and manifest into a folder
    aside, loads everything back and compares it bit for bit, and only then puts the folder in its place.
    Raises RunError if the metrics miss the recipe's target, or if the name is published and `force` is not given.
    """
    finished = open_run(run)
    recipe = finished.recipe
    target = (Path(zoo) if zoo is not None else _home(finished.model)) / recipe.name
    if target.exists() and not force:
        raise RunError(f"{target} is published already; pass --force to replace it")
    data = recipe.data()
    metrics = evaluate(recipe, finished.model, data)
    if recipe.target and not recipe.target.met_by(metrics):
        raise RunError(
            f"{recipe.name} reaches {recipe.target.metric} {metrics[recipe.target.metric]:.6g}, but its recipe "
            f"promises {recipe.target}; nothing was published. Train it with the recipe's own settings, or for longer."
        )
    with _put_in_place(target) as folder:
        _write_entry(folder, finished, data, metrics)
        problems = [check for check in verify_files(folder, finished.model) if not check.passed]
        if problems:
            raise RunError(f"{recipe.name} does not come back as it was written: {problems[0]}; nothing was published")
    return target


def _home(model: Module) -> Path:
    return Path(inspect.getfile(type(model))).parent


def _write_entry(folder: Path, run: Run, data: Split, metrics: dict[str, float]) -> None:
    recipe, model = run.recipe, run.model
    describes = {
        "name": recipe.name,
        "architecture": recipe.architecture,
        "config": json.dumps(dict(recipe.config), sort_keys=True),
    }
    for filename in WEIGHTS.values():
        save_model(model, folder / filename, metadata=describes)
    save_file(golden_values(recipe, model, *golden_examples(data)), folder / GOLDEN)
    pictures = _draw_pictures(folder, run, data)
    manifest: dict[str, Any] = {
        "manifest_version": MANIFEST_VERSION,
        "name": recipe.name,
        "architecture": recipe.architecture,
        "config": dict(recipe.config),
        "parameters": model.num_parameters(),
        "summary": recipe.summary,
        "example": list(recipe.example),
        "labels": list(recipe.labels),
        "licence": LICENCE,
        "fingerprint": checkpoints.inspect(folder / WEIGHTS["safetensors"]).fingerprint,
        "metrics": metrics,
        "recipe": {"name": recipe.name, "command": recipe.command, **recipe.settings},
        "data": {"name": data.name, "source": data.source, "licence": data.licence, "sha256": data.sha256},
        "environment": environment(),
        "files": describe_files(folder, [*WEIGHTS.values(), GOLDEN, *pictures]),
    }
    (folder / CARD).write_text(render_card(recipe, model, manifest, pictures), encoding="utf-8")
    manifest["files"] |= describe_files(folder, [CARD])
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _draw_pictures(folder: Path, run: Run, data: Split) -> dict[str, str]:
    figures = {"Training, epoch by epoch": draw_curves(run.history), **run.recipe.pictures(run.model, data)}
    pictures = {}
    for number, (caption, figure) in enumerate(figures.items()):
        filename = "curves.png" if number == 0 else f"picture-{number}.png"
        save_picture(figure, folder / filename)
        pictures[filename] = caption
    return pictures


@contextmanager
def _put_in_place(target: Path) -> Iterator[Path]:
    """A new folder beside the target that takes its place if the block ends well, and is removed if it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        folder = aside / "new"
        folder.mkdir()
        yield folder
        _synchronise(folder)
        # A folder with content cannot be renamed over another: the old one steps aside, and back if the new one fails.
        if target.exists():
            target.rename(aside / "old")
        try:
            folder.rename(target)
        except OSError:
            if (aside / "old").exists():
                (aside / "old").rename(target)
            raise
        _synchronise(target.parent, content=False)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _synchronise(folder: Path, content: bool = True) -> None:
    for path in [*(folder.iterdir() if content else ()), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
