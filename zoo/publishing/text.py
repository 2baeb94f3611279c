"""Text for people: tables, predictions, command lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...checkpoints.errors import printable
from ..data.images import render_image

if TYPE_CHECKING:
    from ..training.recipe import Recipe


def render(prediction: object) -> str:
    """Return a prediction as text: an image as shades, numbers and words as they are, named tuples as a table."""
    if isinstance(prediction, np.ndarray):
        return render_image(prediction) if prediction.ndim == 2 else " ".join(f"{value:.6g}" for value in prediction)
    if isinstance(prediction, list) and prediction and isinstance(prediction[0], tuple):
        header = getattr(prediction[0], "_fields", None)
        rows = [[f"{value:.1%}" if isinstance(value, float) else str(value) for value in row] for row in prediction]
        return table([header, *rows] if header else rows)
    if isinstance(prediction, list):
        return " ".join(map(str, prediction))
    return str(prediction)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of text as aligned columns. Each cell is on one line, so that none looks like another row."""
    rows = [[printable(" ".join(cell.splitlines())) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def train_command(recipe: "Recipe") -> str:
    """Return the shell command that runs a recipe with its settings."""
    options = f"--seed {recipe.seed} --epochs {recipe.epochs} --batch-size {recipe.batch_size} --lr {recipe.lr!r}"
    return f"statezoo train {recipe.name} {options}" + (" --data FOLDER" if recipe.data_folder else "")
