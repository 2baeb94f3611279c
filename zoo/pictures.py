"""Pictures for the cards, drawn with matplotlib: the curves of a run, and rows of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple["Figure", np.ndarray]:
    """A figure of that many inches without a window, and its axes (rows, columns)."""
    figure_module = require("matplotlib.figure", "matplotlib")
    figure = figure_module.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_curves(history: Sequence[Mapping[str, float]]) -> "Figure":
    """The loss and each metric of a run over its epochs, one panel each."""
    # What no epoch changes, such as the error of another method, is no curve.
    changes = {name: len({row[name] for row in history}) > 1 for name in history[0]}
    names = [name for name in history[0] if name == "loss" or (changes[name] and name != "epoch")]
    figure, axes = new_figure(3.6 * len(names), 2.8, columns=len(names))
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes[0], names, strict=True):
        values = [row[name] for row in history]
        axis.plot(epochs, values, color="#2563eb", marker="." if len(epochs) < 3 else None)
        if min(values) > 0 and max(values) > 30 * min(values):
            axis.set_yscale("log")
        axis.set_title("training loss" if name == "loss" else name.replace("_", " "), fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    return figure


def draw_image_rows(rows: Mapping[str, np.ndarray]) -> "Figure":
    """Rows of images with a label each. rows: label -> (count, height, width) in 0..1, the same count in all."""
    count = len(next(iter(rows.values())))
    figure, axes = new_figure(0.8 * count + 1.2, 0.85 * len(rows), rows=len(rows), columns=count)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG; the same figure gives the same bytes."""
    # The default metadata names the matplotlib version, which would change the file without changing the picture.
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
