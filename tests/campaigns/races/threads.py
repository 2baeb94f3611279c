"""Save while other threads train: change arrays in place, resize and rebind them, add and remove names.

    python tests/campaigns/races/threads.py 2000

Each trial is one save of a drawn kind. If it succeeds, the file loads with every byte checked, and each element is a
value that its array had between the start and the end of the save. If it raises an error of ours, the old file is still
there. In a third of the trials, a thread writes whole generations, each in one C call, and `snapshot=True` and the
History in the background must find all arrays in the same generation.
"""

import io
import operator
import random
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import numpy as np
from reporting import arguments, conclude

from statezoo import core
from statezoo.checkpoints import CheckpointError, History, load_file, save_file, save_model

Counts = Counter[str]
State = dict[str, Any]
SUFFIXES = (".safetensors", ".h5", ".npz")
# Those of the first group are never smaller than at the start of a save; the others start at 0 when they appear.
STEADY = "steady"
WORLD_TRIALS = 25


class Run:
    """Arrays that threads change, the folder that they are saved to, and what was counted."""

    def __init__(self, folder: Path, draw: random.Random, counts: Counts) -> None:
        self.folder, self.draw, self.counts = folder, draw, counts
        self.stop = threading.Event()
        self.errors: list[BaseException] = []

    @contextmanager
    def training(self, *steps: Callable[[], None]) -> Iterator[None]:
        """Call each step again and again, on a thread of its own, during the block."""

        def work(step: Callable[[], None]) -> None:
            try:
                while not self.stop.is_set():
                    step()
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=work, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
            self.stop.clear()

    def check(self, what: str, is_true: bool, detail: object = "") -> None:
        if not is_true:
            self.counts[f"BROKEN: {what}"] += 1
            print(what, detail)


def drawn_state(draw: random.Random) -> State:
    """Return arrays of zeros of drawn sizes and kinds. Some share memory."""
    state: State = {}
    for number in range(draw.randint(2, 6)):
        length = draw.choice([1, 7, 300, 5_000, 20_000, 300_000])
        kind = draw.choice(["<f4", "<f8", "<i4", ">i4", "<i8", "<c8"])
        array = np.zeros((2, length), kind)
        state[f"{STEADY} {number}"] = draw.choice([array, array, array.T, array[:, ::2]])
    first = next(iter(state.values()))
    state[f"{STEADY} tie"], state[f"{STEADY} view"] = first, first[:1]
    last = {"rebound": np.zeros(100), "resized": np.zeros(50), "reshaped": np.zeros(60), "passing": np.zeros(3)}
    return state | last


def bounds(state: State) -> dict[str, float]:
    return {name: float(np.real(array).min()) for name, array in dict(state).items() if name.startswith(STEADY)}


def highest(arrays: list[np.ndarray]) -> float:
    return max(float(np.real(array).max()) for array in arrays)


def torn_trials(run: Run, trials: int) -> None:
    """Save while one thread adds to arrays in NumPy code, and another changes shapes, sizes and names."""
    state = drawn_state(run.draw)
    steady = [array for name, array in state.items() if name.startswith(f"{STEADY} ") and name[-1].isdigit()]
    owners = [array if array.base is None else array.base for array in steady]
    log: list[int] = []
    state["_extra_state"] = {"log": log}

    def add() -> None:
        for array in owners:
            array += 1

    def change() -> None:
        state["rebound"] = np.full(run.draw.randint(1, 200), state["rebound"][0] + 1)
        with suppress(ValueError):  # it is being saved
            state["resized"].resize(len(state["resized"]) % 60_000 + 1_000, refcheck=False)
        state["reshaped"].shape = (-1, run.draw.choice([1, 2, 3, 4, 5, 6]))
        log.append(len(log)) if len(log) < 1_000 else log.clear()
        state.pop("passing", None)
        state["passing"] = np.ones((1 + len(state["rebound"]) % 3, 5)).T

    with run.training(add, change):
        for _ in range(trials):
            one_torn_trial(run, state, owners)


def one_torn_trial(run: Run, state: State, owners: list[np.ndarray]) -> None:
    kind = run.draw.choice(["file", "snapshot", "shards", "open file", "History", "shared History", "background"])
    suffix = ".safetensors" if kind in ("shards", "shared History") else run.draw.choice(SUFFIXES)
    path = run.folder / f"torn{suffix}"
    low = bounds(state)
    try:
        loaded = saved(kind, state, path)
    except CheckpointError as error:
        run.counts[f"{kind}: {type(error).__name__}"] += 1
        if path.exists():
            load_file(path)
        return
    except Exception as error:
        run.check("an error that is not ours", False, repr(error))
        return
    high = highest(owners) + 1
    run.counts[f"{kind}: saved"] += 1
    for name, array in loaded.items():
        if not name.startswith(STEADY):
            continue
        values = np.real(array).astype(float)
        is_known = bool((values >= low[name]).all() and (values <= high).all() and (values % 1 == 0).all())
        run.check("a value that its array never had", is_known, (kind, name, low[name], high))
    log = loaded["_extra_state"]["log"]
    run.check("extra state of several moments", log == list(range(len(log))), log)
    run.check("a name is missing", low.keys() <= loaded.keys(), (kind, list(loaded)))


def saved(kind: str, state: State, path: Path) -> dict[str, Any]:
    """Save a state in one of the ways, and return what loads with all checks."""
    if kind == "open file":
        file = io.BytesIO()
        save_file(state, file, format=path.suffix)
        return load_file(file.getvalue())
    if kind in ("History", "shared History", "background"):
        history = History(
            path.parent / f"{kind}{path.suffix}",
            keep_last=2,
            format=path.suffix,
            share=kind == "shared History",
            background=kind == "background",
            durable=False,
        )
        latest = history.latest()
        history.save(0 if latest is None else latest.step + 1, state)
        history.close()
        newest = history.latest()
        assert newest is not None
        return load_file(newest.path)
    shards = 100_000 if kind == "shards" else None
    save_file(state, path, durable=False, snapshot=kind == "snapshot", max_shard_size=shards)
    return load_file(path)


def model_trials(run: Run, trials: int) -> None:
    """Save a model while its parameters change in place and are bound to new arrays."""
    width = run.draw.choice([3, 60, 400])
    model = core.Sequential(core.Linear(width, width), core.Linear(width, width))
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.data[...] = 0

    def step() -> None:
        for parameter in parameters:
            parameter.data += 1
            parameter.data = parameter.data + 1

    with run.training(step):
        for _ in range(trials):
            path = run.folder / f"model{run.draw.choice(SUFFIXES)}"
            low = min(float(parameter.data.min()) for parameter in parameters)
            shards = 50_000 if path.suffix == ".safetensors" and run.draw.random() < 0.3 else None
            save_model(model, path, durable=False, snapshot=run.draw.random() < 0.5, max_shard_size=shards)
            values = [np.asarray(array).astype(float) for array in load_file(path).values()]
            high = max(float(parameter.data.max()) for parameter in parameters)
            is_known = all((value >= low).all() and (value <= high + 1).all() for value in values)
            run.check("a value that its parameter never had", is_known and len(values) == 4, (low, high))
            run.counts["model: saved"] += 1


def moment_trials(run: Run, trials: int) -> None:
    """Save snapshots while a thread writes whole generations, each in one C call."""
    lengths = [run.draw.choice([1, 100, 10_000, 200_000]) for _ in range(run.draw.randint(2, 8))]
    arrays = [np.zeros(length, np.uint8) for length in lengths]
    state: State = {}
    for number, array in enumerate(arrays):
        half = len(array) // 2
        slices = {"first": array[: half + 1], "second": array[half:]}  # they overlap in one element
        views = run.draw.choice([{"": array}, {"strided": array[::3]}, {"backwards": array[::-1]}, slices])
        state |= {f"{number} {name}": view for name, view in views.items()}
    memories = [array.data for array in arrays]
    put: Callable[[Any, Any, Any], None] = operator.setitem
    generations = [[bytes([value]) * length for length in lengths] for value in range(7)]

    def write() -> None:
        for generation in generations:
            deque(map(put, memories, repeat(slice(None)), generation), maxlen=0)

    with run.training(write):
        for _ in range(trials):
            kind = run.draw.choice(["snapshot", "background"])
            loaded = saved(kind, state, run.folder / f"moment{run.draw.choice(SUFFIXES)}")
            found = {int(value) for array in loaded.values() for value in np.unique(array)}
            run.check("values of several moments", len(found) == 1, (kind, lengths, found))
            run.counts[f"one moment, {kind}: saved"] += 1


def run(trials: int, seed: int = 0) -> Counts:
    """Return what was counted. What is broken is printed with its details, and its name starts with BROKEN."""
    counts: Counts = Counter()
    draw = random.Random(seed)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        for start in range(0, trials, WORLD_TRIALS):
            with tempfile.TemporaryDirectory() as folder:
                world = Run(Path(folder), draw, counts)
                # In turn: the threads draw from `draw` as well, so that what it gives next is different in each run.
                kind = (torn_trials, model_trials, moment_trials)[start // WORLD_TRIALS % 3]
                kind(world, min(WORLD_TRIALS, trials - start))
                world.check("a training thread failed", not world.errors, world.errors)
                left = list(Path(folder).rglob(".statezoo-*"))
                world.check("a temporary file is left", not left, left)
                counts["trials"] += min(WORLD_TRIALS, trials - start)
    finally:
        sys.setswitchinterval(interval)
    return counts


if __name__ == "__main__":
    parsed = arguments(__doc__, 2000).parse_args()
    sys.exit(conclude(parsed.seed, run(parsed.trials, parsed.seed)))
