"""Saves over a good file that are struck at every system call, and what must hold after each.

    python tests/faults/campaign.py          # all of it, with counts; some minutes
    python tests/faults/campaign.py --api save_file --suffix .h5 --fault kill --stride 5

A save that is killed leaves the complete old or the complete new file, and the next save removes what else it left.
A save whose call fails raises a CheckpointError and leaves the old file; or it succeeds, or says that the file was
written. It leaves no temporary file and no open descriptor, and the arrays are as they were.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tracing import Fault, Trial, marked, run, why_not

from statezoo import core as nn
from statezoo.checkpoints import CheckpointError, save_file, save_model
from statezoo.checkpoints.formats import SUFFIXES

FAULTS = {
    "kill": Fault("kill"),
    "short": Fault("short"),
    **{name: Fault("error", getattr(errno, name)) for name in ("ENOSPC", "EIO", "EROFS", "EACCES", "EINTR")},
}


def state_of(seed: int) -> dict[str, np.ndarray]:
    """Return a state with small tensors, some of several chunks, a tie and a view."""
    rng = np.random.default_rng(seed)
    state: dict[str, np.ndarray] = {f"layers.{n}.bias": rng.random(5 + n, np.float32) for n in range(4)}
    state["layers.0.weight"] = rng.random((300, 500), np.float32)
    state["layers.1.weight"] = rng.random((90, 400), np.float64)
    return {**state, "tied": state["layers.0.weight"], "view": state["layers.1.weight"].T}


def large_state_of(seed: int) -> dict[str, np.ndarray]:
    """Return a state that is large enough to be written on several threads."""
    return {f"weight.{n}": np.full((1 << 18,), seed + n, np.float32) for n in range(9)}


def model_of(seed: int) -> nn.Module:
    """Return a model with a tied weight and buffers."""
    nn.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(300, 200), nn.Linear(200, 300, bias=False), nn.BatchNorm1d(300))
    model[1].weight = model[0].weight
    return model


# The exit status of a test that was skipped, by the habit of automake.
_CANNOT_RUN = 77


class Api(NamedTuple):
    """A way to save. make: gives what is saved, for a seed. arrays: gives those of it. save: saves it."""

    make: Callable[[int], Any]
    arrays: Callable[[Any], dict[str, np.ndarray]]
    save: Callable[[Any, Path], None]


APIS = {
    "save_file": Api(state_of, dict, save_file),
    "save_model": Api(model_of, nn.Module.state_dict, save_model),
    "durable=False": Api(state_of, dict, partial(save_file, durable=False)),
    "threads": Api(large_state_of, dict, partial(save_file, durable=False)),
}


class Campaign:
    """Saves by one api to a file of one format in folder, each met by one fault at another call."""

    def __init__(self, api: str, suffix: str, folder: Path) -> None:
        self.api = APIS[api]
        self.path = Path(tempfile.mkdtemp(prefix="with spaces and ünïcödé ", dir=folder)) / f"état 1{suffix}"
        self.old, self.new = self.api.make(1), self.api.make(2)
        self.api.save(self.new, self.path)
        self.new_bytes = self.path.read_bytes()
        self.api.save(self.old, self.path)
        self.old_bytes = self.path.read_bytes()
        assert self.old_bytes != self.new_bytes

    def run(self, fault: Fault, stride: int) -> Counter[str]:
        """Strike at every stride-th call until a save is through; return how often each thing came of it.

        Raises AssertionError, which says at which call, for what must not be.
        """
        outcomes: Counter[str] = Counter()
        at, misses = 1, 0
        while misses < 3:  # threads that wait for each other make more calls in one run than in the next
            trial = run(self._save_new, fault, at)
            try:
                outcome = self._judged(trial, killed=fault.kind == "kill" and trial.struck is not None)
                self.api.save(self.old, self.path)
                assert self._others() == [], "the next save does not remove what is left"
            except AssertionError as error:
                raise AssertionError(f"{fault} at call {at}, {trial.struck}: {error}; {trial.report}") from error
            outcomes[outcome] += trial.struck is not None
            at, misses = at + stride, 0 if trial.struck else misses + 1
        return +outcomes

    def _save_new(self) -> bytes:
        """Save, in the process that is struck; return, as JSON, what came of it."""
        arrays = self.api.arrays(self.new)
        before = {name: array.copy() for name, array in arrays.items()}
        descriptors = set(os.listdir("/proc/self/fd"))
        report: dict[str, Any] = {"error": None}
        try:
            marked(lambda: self.api.save(self.new, self.path))
        except CheckpointError as error:
            report["error"] = str(error)
        except BaseException as error:
            report["unexpected"] = repr(error)
        report["leaked"] = sorted(set(os.listdir("/proc/self/fd")) - descriptors)
        report["changed"] = [name for name, array in arrays.items() if not np.array_equal(array, before[name])]
        return json.dumps(report).encode()

    def _judged(self, trial: Trial, killed: bool) -> str:
        content = self.path.read_bytes()
        is_old, is_new = content == self.old_bytes, content == self.new_bytes
        assert is_old or is_new, "the file is neither the old nor the new one"
        if killed:
            assert trial.report is None, "the process outlived its end"
            assert all(name.startswith(".statezoo-") for name in self._others()), self._others()
            return "old file" if is_old else "new file"
        assert trial.report is not None, "the process died"
        report = json.loads(trial.report)
        assert "unexpected" not in report, "not a CheckpointError"
        assert not report["leaked"], "a descriptor is left open"
        assert not report["changed"], "an array was changed"
        assert self._others() == [], "a file is left"
        return _refused(report["error"], str(self.path), is_new)

    def _others(self) -> list[str]:
        return [name for name in os.listdir(self.path.parent) if name != self.path.name]


def _refused(error: str | None, path: str, is_new: bool) -> str:
    """Return what a save that was not killed came to, its error being true."""
    if error is None:
        assert is_new, "a save that raised nothing left the old file"
        return "saved"
    assert error.startswith(path), "the error does not name the file"
    if "was written, but its folder could not be flushed" in error:
        assert is_new, "the error says that the file was written"
        return "saved, said not to be flushed"
    assert "What was there before is unchanged.\n" in error, "the error does not say what became of the old file"
    assert not is_new, "the error says that the old file is unchanged"
    return "refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--api", action="append", choices=APIS, help="all of them if not given")
    parser.add_argument("--suffix", action="append", choices=SUFFIXES)
    parser.add_argument("--fault", action="append", choices=FAULTS)
    parser.add_argument("--stride", type=int, default=1, help="strike at every so many calls (default: at each)")
    parser.add_argument("--folder", type=Path, help="where the files are (default: a temporary folder)")
    arguments = parser.parse_args()
    if reason := why_not():
        print(reason, file=sys.stderr)
        sys.exit(_CANNOT_RUN)
    total = 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for api, suffix in itertools.product(arguments.api or APIS, arguments.suffix or SUFFIXES):
            for name in arguments.fault or FAULTS:
                outcomes = Campaign(api, suffix, Path(folder)).run(FAULTS[name], arguments.stride)
                total += outcomes.total()
                counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
                print(f"{api:14} {suffix:12} {name:7} {outcomes.total():5} struck: {counts}", flush=True)
    print(f"{total} saves were struck, and none broke what was there")


if __name__ == "__main__":
    main()
