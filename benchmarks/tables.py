"""Rounds in which all workers take turns, and their medians as tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from files.workers import Measured, Worker, median

MIB, GIB = 1 << 20, 1 << 30

# Seconds from which one round is enough.
_LONG_S = 10

# By the name of the worker and of its action.
Results = dict[tuple[str, str], Measured]


def compare(actions: Iterable[tuple[Worker, str]], rounds: int, at_least_s: float = 0) -> Results:
    """Return the medians of the workers' actions.

    Each runs once in every round, in turn, so that a machine that slows down slows all of them. An action that fails in
    the first round is named and left out, and one that takes long is not repeated.
    """
    runs: dict[tuple[Worker, str], list[Measured]] = {}
    repeated: list[tuple[Worker, str]] = []
    for worker, action in actions:
        try:
            runs[worker, action] = [worker.run(action, at_least_s)]
        except RuntimeError as error:
            print(f"not measured: {error}", flush=True)
            continue
        if runs[worker, action][0].seconds > _LONG_S:
            print(f"measured once: {worker.name}, {action}", flush=True)
        else:
            repeated.append((worker, action))
    for _ in range(rounds - 1):
        for worker, action in repeated:
            runs[worker, action].append(worker.run(action, at_least_s))
    return {(worker.name, action): median(measured) for (worker, action), measured in runs.items()}


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown; the first column is text, the others are figures."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = [widths[0] * "-", *((width - 1) * "-" + ":" for width in widths[1:])]
    print(f"\n### {title}\n")
    for line in (lines[0], rule, *lines[1:]):
        figures = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        print("| " + " | ".join([line[0].ljust(widths[0]), *figures]) + " |", flush=True)


def spread(seconds: Sequence[float]) -> tuple[str, str]:
    """Return two cells, in milliseconds: the median, and the lowest and highest."""
    return f"{statistics.median(seconds) * 1e3:.0f}", f"{min(seconds) * 1e3:.0f} - {max(seconds) * 1e3:.0f}"


def ratio(measured: Measured, other: Measured | None) -> str:
    return f"{measured.seconds / other.seconds:.2f}" if other else "-"


def milliseconds(measured: Measured) -> str:
    return f"{measured.seconds * 1e3:.3f}" if measured.seconds < 0.1 else f"{measured.seconds * 1e3:.0f}"
