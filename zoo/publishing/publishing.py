"""Publishing: a finished run becomes an entry, complete and checked before it appears."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import checkpoints
from ...checkpoints import CheckpointError, save_file, save_model
from ...checkpoints.storage import durable
from ...core import Module
from ..data import Split
from ..entry import (
    CARD,
    GOLDEN,
    MANIFEST,
    MANIFEST_VERSION,
    ONNX,
    TRAJECTORY,
    WEIGHTS,
    Entry,
    describe_files,
    manifest_text,
    open_entry,
)
from ..errors import EntryError, ExportError, MissingExtraError, RunError
from ..interface.applying import Interface
from ..loading import describe
from ..training.recipe import Recipe
from ..training.run.determinism import one_thread
from ..training.run.trajectories import Trajectory, stack_weights
from ..training.train import Run, evaluate, open_run
from ..versions import place_of, whole
from .golden import golden_examples, golden_values
from .huggingface.card import render_card
from .onnx.exporter import OUTPUT, export_onnx, input_names
from .onnx.graph import OPSET
from .pictures import draw_curves, save_picture
from .placing import placed
from .text import render, train_command
from .verification import verify_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LICENCE = "Apache-2.0"


def publish(run: str | Path, zoo: str | Path, force: bool = False) -> Path:
    """Publish a finished run as an entry in the folder `zoo`. Return the folder of the entry.

    Evaluates the model, writes weights in both formats, golden values, pictures, card and manifest into a temporary
    folder, loads everything back and compares it bit for bit, and only then moves the folder into its place.

    Raises RunError if the metrics miss the recipe's target, if the name is published and `force` is False, if something
    else is at the target, or if the system refuses to write. The target is unchanged in each case.
    """
    finished = open_run(run)
    recipe = finished.recipe
    target = Path(zoo) / recipe.name
    if target.is_symlink():
        target = target.resolve()

    def refuse_occupied(place: Path) -> None:
        _refuse_occupied(place, recipe.name, force)

    refuse_occupied(target)
    try:
        with one_thread():
            data = recipe.data()
            metrics = evaluate(recipe, finished.model, data)
            _refuse_missed_target(recipe, metrics)
            with placed(target, refuse_occupied) as folder:
                _write_entry(folder, finished, data, metrics)
                _refuse_differences(open_entry(folder), finished)
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise RunError(f"{target} could not be published: {error}. What was there is unchanged.") from error
    return target


def _refuse_occupied(target: Path, name: str, force: bool) -> None:
    """Raise RunError unless the target is free, or an entry of this name that may be replaced."""
    if not place_of(target).exists():
        return
    try:
        occupant = whole(target, lambda entry: entry.name)
    except EntryError as error:
        raise RunError(f"{target} exists and is not replaced: {error} Remove it, or choose another folder.") from None
    if occupant != name:
        raise RunError(f"{target} holds the entry {occupant!r} and is not replaced. Choose another folder.")
    if not force:
        raise RunError(f"{target} is already published. Pass force=True to replace it.")


def _refuse_missed_target(recipe: Recipe, metrics: dict[str, float]) -> None:
    if recipe.target and not recipe.target.met_by(metrics):
        raise RunError(
            f"{recipe.name} reaches {recipe.target.metric} {metrics[recipe.target.metric]:.6g}, but its recipe "
            f"requires {recipe.target}; nothing was published. Train with the recipe's own settings, or for longer."
        )


def _refuse_differences(entry: Entry, run: Run) -> None:
    problems = [check for check in verify_files(entry, run.recipe, run.model) if not check.passed]
    if problems:
        raise RunError(
            f"{entry.name} does not load back as it was written ({problems[0].name}: {problems[0].found}); "
            "nothing was published."
        )


def _write_entry(folder: Path, run: Run, data: Split, metrics: dict[str, float]) -> None:
    golden = golden_values(run.recipe, run.model, *golden_examples(data))
    manifest = _manifest(run, data, metrics, golden)
    for filename in WEIGHTS.values():
        save_model(run.model, folder / filename, metadata=describe(manifest))
    save_file(golden, folder / GOLDEN)
    manifest["onnx"] = _write_onnx(folder / ONNX, run.model, golden["input"])
    learnt = _save_trajectory(folder, run) if run.recipe.keeps_trajectory else {}
    manifest["fingerprint"] = checkpoints.inspect(folder / WEIGHTS["safetensors"]).fingerprint
    manifest["pictures"] = _draw_pictures(folder, run, data, learnt)
    manifest["files"] = describe_files(folder, sorted(path.name for path in folder.iterdir()))
    (folder / CARD).write_text(render_card(manifest), encoding="utf-8")
    manifest["files"] |= describe_files(folder, [CARD])
    with durable.replace(str(folder / MANIFEST)) as descriptor:  # whole or missing: it says that the folder is finished
        durable.write_all(descriptor, manifest_text(manifest).encode(), 0)


def _write_onnx(path: Path, model: Module, example: np.ndarray) -> dict[str, str]:
    """Write the model as an ONNX file and return what it was made with, or why there is none."""
    try:
        export_onnx(model, path, example)
    except (ExportError, MissingExtraError) as error:
        return {"missing": str(error)}
    return {"opset": str(OPSET), **{name: version(name) for name in ("onnx", "onnxruntime")}}


def _interface(model: Module, golden: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the interface in a manifest: what the model declares, with the shapes and dtypes of golden values."""
    arrays = {"input": golden["input"], "output": golden["output"]}
    plain = {side: ("batch", *(f"axis_{axis}" for axis in range(1, array.ndim))) for side, array in arrays.items()}
    declared = getattr(model, "interface", None)
    if not isinstance(declared, Interface):  # another attribute may have that name
        declared = Interface(plain["input"], plain["output"])
    names, axes = {"input": input_names(model, 1)[0], "output": OUTPUT}, (declared.input_axes, declared.output_axes)
    sides = {
        side: {"name": names[side], "dtype": str(array.dtype), "axes": list(named), "shape": [None, *array.shape[1:]]}
        for (side, array), named in zip(arrays.items(), axes, strict=True)
    }
    steps = {"preprocessing": declared.preprocessing, "postprocessing": declared.postprocessing}
    return sides | {key: [dict(step) for step in value] for key, value in steps.items()}


def _manifest(run: Run, data: Split, metrics: dict[str, float], golden: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the manifest without its files and the values computed from them."""
    recipe, model = run.recipe, run.model
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": recipe.name,
        "architecture": recipe.architecture,
        "config": dict(recipe.config),
        "parameters": model.num_parameters(),
        "summary": recipe.summary,
        "details": recipe.details(),
        "task": recipe.task,
        "example": list(recipe.example),
        "prediction": render(model.predict(*recipe.example)) if recipe.example else "",
        "labels": list(recipe.labels),
        **_interface(model, golden),
        "licence": LICENCE,
        "metrics": metrics,
        "target": str(recipe.target or ""),
        "tolerances": {
            "weights": recipe.weight_tolerance,
            "metrics": {name: recipe.tolerance(name, value) for name, value in metrics.items()},
            "retrained": {name: recipe.retrained_tolerance(name, value) for name, value in metrics.items()},
        },
        # The data folder is a private path on this machine.
        "recipe": {
            "command": train_command(recipe),
            **recipe.settings,
            "data_folder": None,
            "first_epoch": run.made.first_epoch,
        },
        "training": {"steps": run.made.steps, "wall_time_s": run.made.wall_time_s},
        "data": {"name": data.name, "source": data.source, "licence": data.licence, "sha256": data.sha256},
        "environment": run.made.environment,
    }


def _save_trajectory(folder: Path, run: Run) -> dict[str, "Figure"]:
    """Write the weights of all epochs. Return the figures that show how the model learnt, by caption."""
    recipe = run.recipe
    states = stack_weights(run.folder, recipe.epochs)
    save_file(states, folder / TRAJECTORY)
    return recipe.learning(Trajectory(recipe.architecture, recipe.config, states))


def _draw_pictures(folder: Path, run: Run, data: Split, learnt: dict[str, "Figure"]) -> dict[str, str]:
    """Save the curves, the figures of how the model learnt and those of the recipe. Return file name -> caption."""
    figures = {
        "Training, epoch by epoch": draw_curves(run.history, run.recipe.target),
        **learnt,
        **run.recipe.pictures(run.model, data),
    }
    pictures = {}
    for number, (caption, figure) in enumerate(figures.items()):
        filename = "curves.png" if number == 0 else f"picture-{number}.png"
        save_picture(figure, folder / filename)
        pictures[filename] = caption
    return pictures
