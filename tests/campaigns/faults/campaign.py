"""Saves over a good file with a fault at every system call, and the checks after each.

    python tests/campaigns/faults/campaign.py          # everything, with counts; takes some minutes
    python tests/campaigns/faults/campaign.py --api save_file --suffix .h5 --fault kill --stride 5

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
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tracing import Fault, Trial, marked, run, why_not
from ways import APIS, SUFFIXES

from statezoo.checkpoints import CheckpointError, load_file
from statezoo.checkpoints.testing import compare_states

FAULTS = {
    "kill": Fault("kill"),
    "short": Fault("short"),
    **{name: Fault("error", getattr(errno, name)) for name in ("ENOSPC", "EIO", "EROFS", "EACCES", "EINTR")},
}
# An edit opens the file first.
_UNREAD = re.compile("cannot be opened|could not be read|there is no file|are missing")
# The exit status of a skipped test, as in automake.
_CANNOT_RUN = 77


class Campaign:
    """Saves with one API to a file of one format, each with one fault at a different call."""

    def __init__(self, api: str, suffix: str, folder: Path) -> None:
        self.api = APIS[api]
        self.path = Path(tempfile.mkdtemp(prefix="with spaces and ünïcödé ", dir=folder)) / f"état 1{suffix}"
        self.old, self.new = self.api.make(1), self.api.make(2)
        self._reset()
        self.api.save(self.new, self.path, durable=False)  # imports the modules that only a save needs
        self._reset()

    def run(self, fault: Fault, stride: int) -> Counter[str]:
        """Strike at every stride-th call until a save finishes. Return how often each outcome occurred.

        What must not happen has its own description, which starts with BROKEN.
        """
        outcomes: Counter[str] = Counter()
        at, misses = 1, 0
        while misses < 3:  # threads that wait for each other make a different number of calls in each run
            trial = run(self._save_new, fault, at)
            try:
                outcome = self._judged(trial, killed=fault.kind == "kill" and trial.struck is not None)
                self.api.save(self.new, self.path, durable=False)
                self.api.before(self.old, self.path, durable=False)  # of two saves, one in shards removes shards
                assert self._others() == [], f"the next save does not remove {self._others()}"
            except (AssertionError, CheckpointError) as error:
                outcome = f"BROKEN at call {at}, {trial.struck}: {error}; {trial.report}"
                self._reset()
            outcomes[outcome] += trial.struck is not None or outcome.startswith("BROKEN")
            at, misses = at + stride, 0 if trial.struck else misses + 1
        return +outcomes

    def _reset(self) -> None:
        for file in self.path.parent.iterdir():
            file.unlink()
        self.api.before(self.old, self.path, durable=False)

    def _save_new(self) -> bytes:
        """Save, in the process with the fault. Return the outcome as JSON."""
        arrays = self.api.arrays(self.new)
        before = {name: array.copy() for name, array in arrays.items()}
        descriptors = set(os.listdir("/proc/self/fd"))
        report: dict[str, Any] = {"error": None}
        try:
            marked(lambda: self.api.save(self.new, self.path, durable=self.api.durable))
        except CheckpointError as error:
            report["error"] = str(error)
        except BaseException as error:
            report["unexpected"] = repr(error)
        report["leaked"] = sorted(set(os.listdir("/proc/self/fd")) - descriptors)
        report["changed"] = [name for name, array in arrays.items() if not np.array_equal(array, before[name])]
        return json.dumps(report).encode()

    def _judged(self, trial: Trial, killed: bool) -> str:
        """Return the outcome of a save. Raises AssertionError if it is not allowed."""
        loaded = load_file(self.path)
        is_old, is_new = (not list(compare_states(self.api.arrays(made), loaded)) for made in (self.old, self.new))
        assert is_old != is_new, "neither the old nor the new state is there"
        if killed:
            assert trial.report is None, "the process outlived its end"
            return "new file" if is_new else "old file"
        assert trial.report is not None, "the process died"
        report = json.loads(trial.report)
        assert "unexpected" not in report, "not a CheckpointError"
        assert not report["leaked"], "a descriptor is left open"
        assert not report["changed"], "an array was changed"
        # An unneeded shard may be left, with the mark that notes it: if the system refuses, the next save removes it.
        left = [name for name in self._others() if re.fullmatch(r"\.statezoo-[0-9]+\.tmp", name)]
        assert not left, f"{left} is left"
        path = str(self.path.with_suffix(""))
        if self.api.reads and report["error"] and (found := _UNREAD.search(report["error"])):
            assert path in report["error"], "the error does not name the file"
            assert not is_new, f"the error says {found[0]}"
            return "refused, as nothing could be read"
        return _refused(report["error"], path, is_new)

    def _others(self) -> list[str]:
        """Return the names of the files that do not belong to the checkpoint."""
        names = set(os.listdir(self.path.parent)) - {self.path.name}
        index = self.path.with_name(self.path.name + ".index.json")
        if index.name in names and not self.path.exists():
            names -= {index.name, *json.loads(index.read_bytes())["weight_map"].values()}
        return sorted(names)


def _refused(error: str | None, path: str, is_new: bool) -> str:
    """Return the outcome of a save that was not killed. path: without suffix. is_new: if the new state is there."""
    if error is None:
        assert is_new, "a save that raised nothing left the old state"
        return "saved"
    assert error.startswith(path), "the error does not name the file"
    if "was written, but its folder could not be flushed" in error:
        assert is_new, "the error says that the file was written"
        return "saved, said not to be flushed"
    phrases = "What was there before is unchanged.\n", "nothing was written", "It still has the old state"
    assert any(phrase in error for phrase in phrases), "the error does not say what became of the old state"
    assert not is_new, "the error says that what was there is unchanged"
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
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for api, suffix in itertools.product(arguments.api or APIS, arguments.suffix or SUFFIXES):
            for name in arguments.fault or FAULTS if suffix in APIS[api].suffixes else ():
                found = Campaign(api, suffix, Path(folder)).run(FAULTS[name], arguments.stride)
                outcomes += found
                counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(found.items()))
                print(f"{api:14} {suffix:12} {name:7} {found.total():5} struck: {counts}", flush=True)
    broken = sum(count for outcome, count in outcomes.items() if outcome.startswith("BROKEN"))
    print(f"{outcomes.total()} saves were struck, and {broken} broke what is promised")
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
