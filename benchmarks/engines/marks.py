"""The marks that the engine must reach, and whether it did in this run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tables import show

OURS, FLOOR, TORCH, JAX = "statezoo", "numpy", "torch", "jax"


class Times(NamedTuple):
    """Seconds of one step: the median of the rounds, and the least."""

    median: float
    least: float


# By work, contestant and action ("step" or "infer").
Results = dict[tuple[str, str, str], Times]


class Mark(NamedTuple):
    """A mark: we must take at most this many times as long as the other."""

    work: str
    action: str
    other: str
    at_most: float


MARKS = (
    Mark("tense", "step", FLOOR, 1.8),
    Mark("mlp", "step", FLOOR, 1.15),
    Mark("transformer", "step", FLOOR, 1.15),
    Mark("linear", "step", FLOOR, 3),
    Mark("tense", "step", TORCH, 1 / 3),
    Mark("mlp", "step", TORCH, 1),
    Mark("transformer", "step", TORCH, 1),
    Mark("linear", "step", TORCH, 1 / 5),
    Mark("tense", "infer", TORCH, 1 / 4),
    Mark("mlp", "infer", TORCH, 1 / 4),
    Mark("linear", "infer", TORCH, 1 / 4),
    Mark("tense", "step", JAX, 1),
    Mark("transformer", "step", JAX, 1),
)


def show_marks(results: dict[str, Results]) -> None:
    """Print the marks of the work that was done, by number of threads: reached, LOST or not measured.

    Both the medians and the least times must reach a mark: either alone may be luck while other programs run.
    """
    show("Marks: ours / theirs", ["", "at most", "medians", "least", ""], _rows(results))


def _rows(results: dict[str, Results]) -> Iterator[list[str]]:
    for threads, times in results.items():
        done = {work for work, _, _ in times}
        for work, action, other, at_most in MARKS:
            if work not in done:
                continue
            text, limit = f"{work} {action} to {other}, {threads}", f"{at_most:.2f} x"
            if (theirs := times.get((work, other, action))) is None:
                yield [text, limit, "-", "-", "not measured"]
                continue
            figures = [a / b for a, b in zip(times[work, OURS, action], theirs, strict=True)]
            verdict = "reached" if max(figures) <= at_most else "LOST"
            yield [text, limit, *(f"{figure:.2f} x" for figure in figures), verdict]
