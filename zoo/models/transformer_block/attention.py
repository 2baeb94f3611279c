"""The attention of the sorting transformer while it writes, by the rank of the digits."""

from typing import TYPE_CHECKING

import numpy as np

from ....core import capture, no_grad
from ...publishing.pictures import new_figure
from .model import SEPARATOR, SortingTransformer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attention_weights(model: SortingTransformer, digits: np.ndarray) -> np.ndarray:
    """Return the attention of each answer position to each position it can read, given correct answers so far.

    digits: (N, length).  Returns (N, heads, length, 2 * length): axis 2 is the digit being written, axis 3 the input,
    the separator, and the digits already written.
    """
    separator = np.full((len(digits), 1), SEPARATOR)
    tokens = np.concatenate([digits, separator, np.sort(digits, axis=1)[:, :-1]], axis=1)
    with no_grad(), capture(model, "block.attention") as seen:
        model(tokens)
    (call,) = seen["block.attention"]
    weights = model.block.attention.attention_weights(*call.args, **call.kwargs)
    return weights.data[:, :, model.length :]


def attention_by_rank(model: SortingTransformer, digits: np.ndarray) -> np.ndarray:
    """Return the mean attention to the smallest input digit, to the second smallest and so on, at any position.

    digits: (N, length); only rows without repeated digits count, as equal digits have no order. Returns (heads, length,
    length + 2): axis 1 is the digit being written; the last two columns are the separator and the answer so far.
    """
    different = digits[(np.diff(np.sort(digits, axis=1), axis=1) > 0).all(axis=1)]
    weights = attention_weights(model, different)
    given, separator, written = np.split(weights, [model.length, model.length + 1], axis=3)
    order = np.argsort(different, axis=1)[:, None, None, :]
    columns = [np.take_along_axis(given, order, axis=3), separator, written.sum(axis=3, keepdims=True)]
    return np.concatenate(columns, axis=3).mean(axis=0)


def draw_attention(model: SortingTransformer, digits: np.ndarray, example: np.ndarray) -> "Figure":
    """Draw the attention of all heads in one example, and by rank over digits, on average and head by head.

    digits: (N, length), with some rows without repeated digits.  example: (length,).
    """
    by_rank = attention_by_rank(model, digits)
    heads, length = by_rank.shape[:2]
    figure, axes = new_figure(11, 7.6, rows=2, columns=(heads + 3) // 2)
    example_panel, mean_panel, *head_panels = axes.flatten()
    found, equal = share_of_the_answer(by_rank.mean(axis=0)), np.mean([1 / (length + 1 + t) for t in range(length)])
    figure.suptitle(
        "The attention of the sorting transformer while it writes, in %:\n"
        f"{found:.0%} goes to the digit it is about to write; an equal share would be {equal:.0%}"
    )
    ordered = np.sort(example)
    read, writes = [*map(str, example), "|", *map(str, ordered[:-1])], [f"writes {digit}" for digit in ordered]
    weights = attention_weights(model, example[None])[0].mean(axis=0)
    _draw(
        example_panel,
        weights,
        f"one example, mean of {heads} heads",
        "token: as given, separator |, written",
        read,
        writes,
    )
    ranks, writes = [*map(str, range(1, length + 1)), "|", "own"], [f"writes no. {n}" for n in range(1, length + 1)]
    label = "n-th smallest digit, separator |, own answer"
    _draw(mean_panel, by_rank.mean(axis=0), f"many examples, mean of {heads} heads", label, ranks, writes)
    for head, panel in enumerate(head_panels):
        if head < heads:
            _draw(panel, by_rank[head], f"many examples, head {head + 1}", label, ranks, writes)
        else:
            panel.set_axis_off()
    return figure


def share_of_the_answer(by_rank: np.ndarray) -> float:
    """The share of attention that goes to the digit being written, over the steps. by_rank: (length, length + 2)."""
    return float(np.diagonal(by_rank).mean())


def _draw(axis: "Axes", weights: np.ndarray, title: str, label: str, columns: list[str], rows: list[str]) -> None:
    axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(label, fontsize=8.5)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    for row, column in zip(*np.nonzero(weights >= 0.1), strict=True):
        value = weights[row, column]
        shade = "white" if value > 0.5 else "black"
        axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8, color=shade)
