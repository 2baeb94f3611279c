"""The checkpoints of a run: saved by step, the old ones removed, the newest and the best found again.

    history = History("runs/digits", keep_last=3, keep_best=1, metric="accuracy", mode="max", background=True)
    with history:
        for step in range(10_000):
            ...
            if step % 100 == 0:
                history.save(step, model, {"accuracy": accuracy})

    saved = history.best()                  # step, path, metrics
    load_model(model, saved.path)

docs/history.md says what holds, and what does not.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeVar

from ...errors import ArgumentError, CorruptError, FormatError, MissingFileError, ReadError, StateError, VersionError
from ...files import load_file, save_file
from ...formats import DEFAULT, format_named
from ...state.validation import checked_metadata
from . import files
from .background import Background, Snapshot
from .log import Log, Record, is_number
from .retention import Mode, Retention, Saved

if TYPE_CHECKING:
    from ....core.nn.module.module import Module

T = TypeVar("T")


class DamagedWarning(UserWarning):
    """A checkpoint of a history that cannot be read was passed over, and another one is used."""


class History:
    """The checkpoints in a folder, which is made if it is not there.

    keep_last: how many of the highest steps stay. keep_best: how many of the best by metric stay besides; mode: whether
    the lowest ("min") or the highest ("max") is the best. keep_every: each step that it divides stays for ever. All
    else is removed after a save, though never what was saved last, nor what another process saved meanwhile.
    format: "safetensors" or "hdf5". background: write on a thread, while the program goes on: see save.
    share: save each as a folder of shards, in which tensors that did not change are links to those of the step before
    (see linked.py); only for safetensors. durable: as for save_file.
    Iterating gives what there is by step, damaged ones too, as Saved; their metrics may be missing then. A context
    manager, which waits for the last save. Raises ArgumentError, WriteError if the folder cannot be made.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep_last: int = 3,
        keep_best: int = 1,
        keep_every: int | None = None,
        metric: str | None = None,
        mode: Mode | None = None,
        *,
        format: str = "safetensors",
        background: bool = False,
        share: bool = False,
        durable: bool = True,
    ) -> None:
        self._retention = Retention(keep_last, keep_best, keep_every, metric, mode)
        form = format_named(format)
        self._suffix = "" if share else form.suffix
        if share and form is not DEFAULT:
            raise ArgumentError(f"checkpoints can share shards only in {DEFAULT.name}. Leave out share, or format.")
        self.folder = os.path.abspath(os.fsdecode(folder))  # the program may change its folder meanwhile
        files.make_folder(self.folder, durable)
        self._durable, self._log = durable, Log(self.folder)
        self._background, self._snapshot = Background(), Snapshot() if background else None
        self._saving = threading.RLock()  # threads would share the snapshot; a signal's handler may save, too
        # What appears in the folder without us is another process's, which removes it itself.
        self._own = set(files.entries(self.folder))
        self._saved: dict[files.Entry, Saved] = {}
        self._is_log_complete = False

    def save(
        self,
        step: int,
        state: Mapping[str, Any] | Module,
        metrics: Mapping[str, SupportsFloat] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Save the state of a step with its metrics, remove what need not stay, and return the path.

        state: what save_file takes, or anything with a state_dict() of that kind. metrics: numbers by name; the metric
        of the history must be among them, unless there are none. metadata: strings by name, as for save_file.
        What was saved for this step before is replaced. In the background the state is copied, into memory that the
        next save uses again; the rest is done on a thread, one save at a time: if the last one has not ended, this one
        waits for it. What fails there is raised by the next call, or by close().
        Raises StateError or UnsupportedTypeError for what cannot be kept, WriteError if the system refuses.
        """
        with self._saving:
            return self._save(step, state, metrics, metadata)

    def latest(self) -> Saved | None:
        """Return the intact checkpoint of the highest step, every byte of it checked; None if there is none at all.

        Damaged ones are passed over with a DamagedWarning. Raises CorruptError if all are damaged.
        """
        found = self._first_intact(lambda: list(self)[::-1], _check)
        return found[0] if found else None

    def best(self) -> Saved | None:
        """Return the intact checkpoint with the best value of the metric, of equal ones the earliest; else as latest().

        NaN is never the best. None if no checkpoint has the metric. Raises ArgumentError if the history has no metric.
        """
        if self._retention.metric is None:
            raise ArgumentError('best() needs to know of what: give History a metric and a mode, "min" or "max".')
        found = self._first_intact(self._ranked, _check)
        return found[0] if found else None

    def load(self, read: Callable[[str], T] = load_file) -> tuple[Saved, T] | None:
        """Return the checkpoint of the highest step that can be read, and what read makes of its path.

        read: load_file, or such as lambda path: load_model(model, path). Else as latest(), which reads twice as much if
        the checkpoint is then loaded.
        """
        return self._first_intact(lambda: list(self)[::-1], read)

    def __iter__(self) -> Iterator[Saved]:
        self._background.wait()
        return iter([self._described(entry) for entry in files.entries(self.folder)])

    def log(self) -> list[Record]:
        """Return a record of each save there was, in order: step, file, time, metrics. See history_log.py."""
        self._background.wait()
        return self._log.records()

    def close(self) -> None:
        """Wait for the save in the background. Raises what went wrong with it. The history can be used further."""
        self._background.wait()

    def __enter__(self) -> History:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"The last save in the background failed as well: {failure}")

    def _save(
        self,
        step: int,
        state: Mapping[str, Any] | Module,
        metrics: Mapping[str, SupportsFloat] | None,
        metadata: Mapping[str, str] | None,
    ) -> str:
        self._background.wait()
        files.check_step(step)
        strings = self._metadata(step, metrics or {}, metadata or {})
        state_dict = state if isinstance(state, Mapping) else _state_dict_of(state)
        path = files.path_of(self.folder, step, self._suffix)
        if self._snapshot is None:
            self._write(step, path, state_dict, strings)
        else:
            self._background.start(partial(self._write, step, path, self._snapshot.take(state_dict), strings))
        return path

    def _metadata(self, step: int, metrics: Mapping[str, SupportsFloat], metadata: Mapping[str, str]) -> dict[str, str]:
        """Return the metadata of a checkpoint. Raises ArgumentError or StateError."""
        if not isinstance(metrics, Mapping):
            raise ArgumentError(f"metrics are a dict of numbers by name, not {type(metrics).__name__}.")
        for name, value in metrics.items():
            if not isinstance(name, str) or not is_number(value):
                raise ArgumentError(
                    f"metrics are numbers by name, and {name!r} is {value!r:.60}. Give float(...) of it."
                )
        wanted = self._retention.metric
        if metrics and wanted is not None and wanted not in metrics:
            known = ", ".join(map(repr, metrics))
            raise ArgumentError(
                f"the metrics lack {wanted!r}, by which the history tells what is best; given: {known}."
            )
        strings = checked_metadata(metadata)  # now, and not on a thread
        if files.KEY in strings:
            raise StateError(f"the metadata key {files.KEY!r} is where a history keeps the metrics. Choose another.")
        numbers = {name: float(value) for name, value in metrics.items()}
        return strings | {files.KEY: files.metadata_of(step, numbers)}

    def _write(self, step: int, path: str, state: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        with self._log.locked() as log:
            files.remove_unfinished(self.folder)
            before = files.entries(self.folder)
            unlogged = self._unlogged(before)
            if self._suffix:
                save_file(state, path, metadata, durable=self._durable)
            else:
                self._write_sharing(path, state, metadata, before)
            written = files.entry_at(step, path)
            if written is None:
                raise MissingFileError(f"{path} was removed by another program as soon as it was saved. Save again.")
            self._own.add(written)
            self._saved.pop(written, None)  # of a file before it at this place
            self._is_log_complete = False
            log.append([*unlogged, written.record])
            self._is_log_complete = True
            self._remove_old(written)

    def _write_sharing(
        self, path: str, state: Mapping[str, Any], metadata: Mapping[str, str], before: list[files.Entry]
    ) -> None:
        from .linked import save_linked  # which most histories do not need

        files.make_folder(os.path.dirname(path), self._durable)
        since = next((entry.path for entry in reversed(before) if entry.is_folder), None)
        save_linked(state, path, metadata, since=since, durable=self._durable)

    def _unlogged(self, entries: list[files.Entry]) -> list[Record]:
        """Return what the log lacks: it was lost, or a process was killed between a save and its line."""
        if self._is_log_complete:
            return []
        logged = {record.file: repr(record.metrics) for record in self._log.records()}  # as text NaN equals NaN
        # One that is damaged says nothing, and its line is right.
        says_nothing = repr({})
        records = [entry.record for entry in entries]
        return [r for r in records if r.file not in logged or repr(r.metrics) not in (logged[r.file], says_nothing)]

    def _remove_old(self, written: files.Entry) -> None:
        entries = files.entries(self.folder)
        kept = self._retention.kept(map(self._described, entries))
        for entry in entries:
            is_replaced = entry.step == written.step and entry.path != written.path  # the same step in another format
            if entry in self._own - {written} and (is_replaced or entry.step not in kept):
                files.remove(entry)
        self._own.intersection_update(entries)
        self._saved = {entry: self._saved[entry] for entry in entries}

    def _described(self, entry: files.Entry) -> Saved:
        """Return step, path and metrics, which are read from a checkpoint once."""
        if entry not in self._saved:
            self._saved[entry] = Saved(entry.step, entry.path, entry.record.metrics)
        return self._saved[entry]

    def _ranked(self) -> list[Saved]:
        """Return those that can be the best, the best first; before them such as do not even tell their metrics."""
        saves = list(self)
        unreadable = [saved for saved in saves if not saved.metrics and not files.is_readable(saved.path)]
        return unreadable + self._retention.ranked(saves)

    def _first_intact(self, candidates: Callable[[], list[Saved]], read: Callable[[str], T]) -> tuple[Saved, T] | None:
        """Return the first that can be read. One that another process has removed meanwhile is none."""
        problems: list[str] = []
        for saved in candidates():
            try:
                return saved, read(saved.path)
            except (FormatError, ReadError, MissingFileError) as error:
                if isinstance(error, VersionError):
                    raise
                if files.entry_at(saved.step, saved.path) is None:
                    return self._first_intact(candidates, read)
                problems.append(f"{saved.path}: {error}")
                warnings.warn(DamagedWarning(f"passed over a damaged checkpoint. {error}"), stacklevel=3)
        if problems:
            raise CorruptError(
                f"none of the {len(problems):,} checkpoints in {self.folder} is intact.\n" + "\n".join(problems)
            )
        return None


def _state_dict_of(state: Any) -> Mapping[str, Any]:
    if not hasattr(state, "state_dict"):
        raise ArgumentError(
            f"a history saves a dict of arrays by name, or what has a state_dict(), not {type(state).__name__}."
        )
    return state.state_dict()


def _check(path: str) -> None:
    """Raise CorruptError or another CheckpointError unless all bytes in a file are those that were written."""
    from ...tools.verification import verify

    found = verify(path)
    if not found.intact:
        raise CorruptError(str(found), found.damaged)
