"""The marks that checkpoints must reach, and whether they did in this run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from files.cold import NUMPY, PREDICT
from files.peers import LIMIT, OURS, OURS_HDF5, SAFETENSORS
from files.scale import COUNTS, SIZES
from files.workers import Measured
from tables import MIB, Results, show

# The best that the machine can do for each action: the fastest of these actions of LIMIT.
_LIMITS = {
    "save": ("save",),
    "save, durable": ("save, durable",),
    "load": ("load", "load, 2 threads"),
    "load, verify=False": ("load", "load, 2 threads"),
    "load, mapped": ("load, mapped",),
}

# The results of a run by work, and a figure computed from them: KeyError means that its work did not run, or failed.
All = dict[str, Results]
Figure = Callable[[All], float]


class Mark(NamedTuple):
    """A figure that must not exceed a limit."""

    text: str
    figure: Figure
    limit: float
    unit: str = " x"


def limit_of(action: str, table: Results) -> Measured | None:
    """Return the machine's best for an action, or None if it was not measured or there is no such limit."""
    return min((table[LIMIT, a] for a in _LIMITS.get(action, ()) if (LIMIT, a) in table), default=None)


def _ratio(work: str, ours: tuple[str, str], theirs: tuple[str, str]) -> Figure:
    return lambda results: results[work][ours].seconds / results[work][theirs].seconds


def _to_limit(action: str) -> Figure:
    def figure(results: All) -> float:
        limit = min(results["big"][LIMIT, a] for a in _LIMITS[action])
        return results["big"][OURS, action].seconds / limit.seconds

    return figure


def _to_stock(work: str, action: str, name: str = OURS, stock: str = SAFETENSORS) -> Figure:
    return _ratio(work, (name, action), (stock, action.split(",")[0]))


def _save_memory_mib(results: All) -> float:
    return results["big"][OURS, "save"].growth_bytes / MIB


def _memory_to_state(results: All) -> float:
    # The limit reads into memory of the state's size.
    return results["big"][OURS, "load"].growth_bytes / results["big"][LIMIT, "load"].growth_bytes


def _growth(unit: str, few: int, many: int, action: str) -> Figure:
    """Return the cost of one among many over the cost of one among few, in the format where it grows more."""

    def figure(results: All) -> float:
        costs = {n: results[f"scale {n} {unit}"] for n in (few, many)}
        times = ([costs[n][name, action].seconds for n in (few, many)] for name in (OURS, OURS_HDF5))
        return max(last / first * few / many for first, last in times)

    return figure


def _open_ms(results: All) -> float:
    return results["big"][OURS, "open + one tensor"].seconds * 1e3


def _open_by_size(results: All) -> float:
    few, many = (results[f"scale {size} bytes"][OURS, "open + one tensor"] for size in (SIZES[0], SIZES[-1]))
    return many.seconds / few.seconds


MARKS = (
    Mark("BIG save to writev", _to_limit("save"), 1.15),
    Mark("BIG save to safetensors.numpy", _to_stock("big", "save"), 1.0),
    Mark("BIG save: memory over the state", _save_memory_mib, 16, " MiB"),
    Mark("BIG save, durable, to writev + fsync", _to_limit("save, durable"), 1.10),
    Mark("BIG load, verified, to readinto", _to_limit("load"), 1.3),
    Mark("BIG load, verified, to safetensors.numpy", _to_stock("big", "load"), 0.5),
    Mark("BIG load: memory to the state", _memory_to_state, 1.02),
    Mark("BIG load, mapped, verified, to np.memmap + sum", _to_limit("load, mapped"), 1.4),
    Mark("BIG load, mapped, verified, to safetensors.numpy's load", _to_stock("big", "load, mapped"), 0.25),
    Mark("BIG open + one tensor of 16 MiB", _open_ms, 5, " ms"),
    Mark("SCALE open + one tensor, 4 GiB to 1 MiB", _open_by_size, 1.25),
    Mark("MANY save to safetensors.numpy", _to_stock("many", "save"), 1.1),
    Mark("MANY load to safetensors.numpy", _to_stock("many", "load"), 0.8),
    Mark("MANY HDF5 save to h5py", _to_stock("many", "save", OURS_HDF5, "h5py"), 0.5),
    Mark("MANY HDF5 load to h5py", _to_stock("many", "load", OURS_HDF5, "h5py"), 0.5),
    Mark("TOY save to safetensors.numpy", _to_stock("toy", "save"), 1.0),
    Mark("TOY load to safetensors.numpy", _to_stock("toy", "load"), 1.0),
    *(
        Mark(f"BIG HDF5 {action} to our safetensors", _ratio("big", (OURS_HDF5, action), (OURS, action)), 1.15)
        for action in ("save", "load", "load, mapped")
    ),
    *(
        Mark(f"SCALE {action}: a tensor of 100,000 to one of 10,000", _growth("tensors", *COUNTS[-2:], action), 1.25)
        for action in ("save", "load")
    ),
    *(
        Mark(f"SCALE {action}: a GiB of 4 GiB to one of 256 MiB", _growth("bytes", SIZES[2], SIZES[-1], action), 1.25)
        for action in ("save", "load")
    ),
    Mark("COLD predict to import numpy", _ratio("cold", (PREDICT, "run"), (NUMPY, "run")), 1.5),
)


def show_all(results: All) -> None:
    """Print the marks of the work that was done: reached, LOST, or not measured where something failed."""
    done = {work.split()[0].upper() for work in results}
    rows = (_row(mark, results) for mark in MARKS if mark.text.split()[0] in done)
    show("Marks", ["", "at most", "measured", ""], rows)


def _row(mark: Mark, results: All) -> list[str]:
    limit = f"{mark.limit:g}{mark.unit}"
    try:
        figure = mark.figure(results)
    except KeyError:
        return [mark.text, limit, "-", "not measured"]
    return [mark.text, limit, f"{figure:.2f}{mark.unit}", "reached" if figure <= mark.limit else "LOST"]
