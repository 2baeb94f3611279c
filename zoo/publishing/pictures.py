"""Pictures for the cards, drawn with matplotlib: the curves of a run, rows of images, tables of numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mpl_toolkits.mplot3d import Axes3D

    from ..training.recipe import Target

# One colour for a single curve. The colours of classes can be told apart with any kind of colour vision:
# Wong 2011, Nature Methods 8:441, doi:10.1038/nmeth.1618.
BLUE, GREY = "#2563eb", "#6b7280"
CLASSES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple["Figure", np.ndarray]:
    """Return a figure of this size in inches, without a window, and its axes (rows, columns)."""
    figure_module = require("matplotlib.figure", "matplotlib")
    figure = figure_module.Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def new_space(width: float, height: float) -> tuple["Figure", "Axes3D"]:
    """Return a figure of this size in inches with axes in three dimensions."""
    figure = require("matplotlib.figure", "matplotlib").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot(projection="3d")


def draw_curves(history: Sequence[Mapping[str, float]], target: "Target | None" = None) -> "Figure":
    """Draw the loss and each metric of a run over its epochs, one panel each, with the recipe's target as a line."""
    # A constant, such as the error of another method, is not drawn.
    changes = {name: len({row[name] for row in history}) > 1 for name in history[0]}
    names = [name for name in history[0] if name == "loss" or (changes[name] and name != "epoch")]
    figure, axes = new_figure(3.6 * len(names), 2.8, columns=len(names))
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes[0], names, strict=True):
        values = [row[name] for row in history]
        # Few epochs are drawn as points on the line.
        axis.plot(epochs, values, color=BLUE, marker="o" if len(epochs) <= 10 else None, markersize=3)
        if min(values) > 0 and max(values) > 30 * min(values):
            axis.set_yscale("log")
        if target and target.metric == name:
            for bound in filter(None, (target.at_least, target.at_most)):
                axis.axhline(bound, color=GREY, linestyle="--", linewidth=1, label=f"target: {bound:g}")
            axis.legend(fontsize=8)
        label = "training loss" if name == "loss" else name.replace("_", " ")
        axis.set_title(f"{label}: {values[-1]:.4g} at the end", fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    return figure


def draw_image_rows(rows: Mapping[str, np.ndarray]) -> "Figure":
    """Draw rows of images, each with its label. rows: label -> (count, height, width) in 0..1, with equal counts."""
    count = len(next(iter(rows.values())))
    figure, axes = new_figure(0.8 * count + 1.2, 0.85 * len(rows), rows=len(rows), columns=count)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
    return figure


def draw_titled_images(images: np.ndarray, titles: Sequence[str], columns: int = 5) -> "Figure":
    """Draw images with a title above each, `columns` to a row. images: (count, height, width) in 0..1."""
    rows = -(-len(images) // columns)
    figure, axes = new_figure(1.5 * columns, 1.75 * rows, rows=rows, columns=columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(title, fontsize=10)
    return figure


def draw_table(axis: "Axes", values: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw shares as a table, each cell shaded and labelled in per cent. values: (rows, columns) in 0..1."""
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axis.text(
            column,
            row,
            f"{100 * value:.0f}",
            ha="center",
            va="center",
            color="white" if value > 0.55 else "black",
            fontsize=8,
        )
    axis.set_xticks(range(len(columns)), columns, rotation=35, ha="right", fontsize=9)
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axis.tick_params(length=0)


def save_picture(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG. The same figure gives the same bytes."""
    # The default metadata holds the matplotlib version, which would change the bytes of an unchanged picture.
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
