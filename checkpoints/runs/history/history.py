"""The checkpoints of a run: save them by step, remove old ones, find the newest and the best.

    history = History("runs/digits", keep_last=3, keep_best=1, metric="accuracy", mode="max", background=True)
    with history:
        for step in range(10_000):
            ...
            if step % 100 == 0:
                history.save(step, model, {"accuracy": accuracy})

    saved = history.best()                  # step, path, metrics
    load_model(model, saved.path)

docs/history.md describes what it guarantees, and what it does not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any, SupportsFloat, TypeVar

from ...errors import ArgumentError, MissingFileError, StateError
from ...files import load_file, save_file
from ...formats import DEFAULT, format_named, refuse_read_only
from ...models import state_of
from ...state.validation import checked_metadata
from ...storage.folders import make_folder, make_folders
from ...storage.identity import MOST_LOOKS, noting_replaced
from . import files, removal
from .background import Background, Snapshot, SnapshotMemory
from .intact import check, first_intact
from .known import Known
from .linked import Checks, save_linked
from .log import Log, Record
from .metrics import checked_metrics
from .retention import Mode, Retention, Saved

T = TypeVar("T")


class History:
    """The checkpoints in a folder. The folder is made if it does not exist.

    keep_last: how many of the highest steps to keep. keep_best: how many of the best by `metric` to keep as well.
    mode: whether the lowest ("min") or the highest ("max") value is the best. keep_every: also keep the steps divisible
    by it. A save removes all other checkpoints that it or an ended process saved here, see docs/history.md.
    format: "safetensors" or "hdf5". background: write on a thread while the program continues, see `save`.
    share: save each checkpoint as a folder of shards, in which unchanged tensors are hard links to those of the step
    before (see linked.py); safetensors only. durable: as in `save_file`.
    Iterating yields every checkpoint as Saved, by step, including damaged ones, which may have no metrics. As a context
    manager, it waits for the last save. It can be pickled: the other process opens the folder again. Raises
    ArgumentError, or WriteError if the folder cannot be made.
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
        refuse_read_only(form, "the format of the history")
        self._suffix = "" if share else form.suffix
        if share and form is not DEFAULT:
            raise ArgumentError(f"checkpoints can share shards only in {DEFAULT.name}. Leave out share, or format.")
        self.folder = os.path.abspath(os.fsdecode(folder))  # the program may change its working directory
        files.make_folder(self.folder, make_folders, durable)
        self._reopen = partial(
            type(self), self.folder, keep_last, keep_best, keep_every, metric, mode,
            format=form.name, background=background, share=share, durable=durable,
        )  # fmt: skip
        self._durable, self._log = durable, Log(self.folder)
        self._background, self._snapshots = Background(), SnapshotMemory() if background else None
        self._checks = Checks()
        # Of each process: a thread that held it does not exist in a forked one. A handler may save during a save.
        self._saving: dict[int, Any] = {}
        self._known = Known(self.folder, self._log, durable)
        self._saved: dict[files.Entry, Saved] = {}
        self._unlogged_names: list[str] = []  # of the saves in progress, whose lines are not yet written
        self._is_log_complete = False

    def save(
        self,
        step: int,
        state: Any,
        metrics: Mapping[str, SupportsFloat] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Save the state of a step with its metrics, remove the checkpoints not to keep, and return the path.

        state: what `save_file` takes, or a model as for `save_model`. metrics: numbers by name, stored as floats. If
        there are any, the history's metric must be among them. metadata: as in `save_file`.
        A checkpoint of the same step is replaced. With `background`, this call only copies the state, into memory that
        the next save reuses. A thread does the rest, one save at a time: a save waits for the one before it. If the
        thread fails, the next call or `close()` raises the error.
        Raises StateError or UnsupportedTypeError if the state cannot be saved, WriteError if the system refuses.
        """
        with self._saving.setdefault(os.getpid(), threading.RLock()):
            self._background.wait()
            files.check_step(step)
            strings = self._metadata(step, metrics or {}, metadata or {})
            state_dict = state_of(state)
            path = files.path_of(self.folder, step, self._suffix)
            if self._snapshots is None:
                self._write(step, path, state_dict, strings)
            else:
                snapshot = self._snapshots.take(state_dict)
                self._background.start(partial(self._write_snapshot, self._snapshots, step, path, snapshot, strings))
            return path

    def latest(self) -> Saved | None:
        """Return the intact checkpoint of the highest step, after checking every byte. None if the folder has none.

        Damaged checkpoints are skipped with a DamagedWarning. Raises CorruptError if all are damaged.
        """
        found = first_intact(self.folder, self._newest_first, self._described, check)
        return found[0] if found else None

    def best(self) -> Saved | None:
        """Return the intact checkpoint with the best metric, the earliest of equals. Otherwise as `latest()`.

        NaN is never the best. Return None if no checkpoint has the metric. Raises ArgumentError if the history has no
        metric.
        """
        if self._retention.metric is None:
            raise ArgumentError('best() needs a metric: give History a metric, and "min" or "max" as its mode.')
        found = first_intact(self.folder, self._best_first, self._described, check)
        return found[0] if found else None

    def load(self, read: Callable[[str], T] = load_file) -> tuple[Saved, T] | None:
        """Return the checkpoint of the highest step that can be read, and what `read` returns for its path.

        read: `load_file`, or a function such as lambda path: load_model(model, path). Otherwise as `latest()`, which
        reads twice as much if the checkpoint is loaded afterwards.
        """
        return first_intact(self.folder, self._newest_first, self._described, read)

    def __iter__(self) -> Iterator[Saved]:
        self._background.wait()
        return iter([saved for _, saved in self._listed()])

    def log(self) -> list[Record]:
        """Return a record of every save so far, in order: step, file, time, metrics. See log.py."""
        self._background.wait()
        return self._log.records()

    def close(self) -> None:
        """Wait for the save in the background, and raise what it raised. The history can still be used afterwards."""
        self._background.wait()

    def __reduce__(self) -> tuple[Callable[[], History], tuple[()]]:
        return self._reopen, ()

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"The last save in the background failed as well: {failure}")

    def _metadata(self, step: int, metrics: Mapping[str, SupportsFloat], metadata: Mapping[str, str]) -> dict[str, str]:
        """Return the metadata of a checkpoint. Raises ArgumentError or StateError."""
        numbers = checked_metrics(metrics)
        wanted = self._retention.metric
        if numbers and wanted is not None and wanted not in numbers:
            known = ", ".join(map(repr, numbers))
            raise ArgumentError(
                f"the history needs the metric {wanted!r} to find the best, but the metrics are {known}."
            )
        strings = checked_metadata(metadata)  # here, not on a thread
        if files.KEY in strings:
            raise StateError(f"the metadata key {files.KEY!r} is reserved for the metrics. Choose another one.")
        return strings | {files.KEY: files.metadata_of(step, numbers)}

    def _write_snapshot(
        self, memory: SnapshotMemory, step: int, path: str, snapshot: Snapshot, metadata: Mapping[str, str]
    ) -> None:
        try:
            self._write(step, path, snapshot.state, metadata)
        finally:
            memory.give_back(snapshot)

    def _write(self, step: int, path: str, state: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        """Write a checkpoint and its line in the log, then remove old ones. A signal handler may interrupt and save."""
        with self._log.locked() as log:
            self._unlogged_names.append(files.name_of(path))
            try:
                removal.clear_unfinished(self.folder)
                before = files.entries(self.folder)
                unlogged = self._unlogged(before)
                with noting_replaced() as noted:
                    self._write_checkpoint(path, state, metadata, before)
                written = files.entry_at(step, path)
                if written is None:
                    raise MissingFileError(f"{path} was removed by another program right after the save. Save again.")
                if written.identity[:2] in noted:  # otherwise another program has replaced it since
                    self._known.add(written)
                self._saved[written] = saved = Saved(step, path, files.metrics_in(metadata))
                log.append([*unlogged, written.record(saved.metrics)])
                self._is_log_complete = True
            except BaseException:
                self._is_log_complete = False
                raise
            finally:
                self._unlogged_names.remove(files.name_of(path))
            entries = self._entries()
            kept = self._retention.kept(map(self._described, entries))
            self._known.remove_old(entries, kept, written)

    def _write_checkpoint(
        self, path: str, state: Mapping[str, Any], metadata: Mapping[str, str], before: list[files.Entry]
    ) -> None:
        target = os.path.join(self.folder, files.name_of(path))
        is_new = not os.path.lexists(target)
        with removal.in_progress(self.folder, path, is_new):
            if self._suffix:
                save_file(state, path, metadata, durable=self._durable)
                return
            files.make_folder(target, make_folder, self._durable)
            # Only from what is known: its owner may change a copy in place.
            shared = (entry.path for entry in reversed(before) if entry.is_folder and entry in self._known)
            with removal.in_progress(self.folder, path, is_new):  # again, now that the folder exists
                save_linked(state, path, metadata, since=next(shared, None), checks=self._checks, durable=self._durable)

    def _unlogged(self, entries: list[files.Entry]) -> list[Record]:
        """Return the lines missing from a log that was lost, or whose writer was killed between a save and its line."""
        if self._is_log_complete:
            return []
        logged = {record.file: repr(record.metrics) for record in self._log.records()}  # as text, NaN equals NaN
        no_metrics = repr({})  # read from a damaged checkpoint, whose line in the log is right
        visible = [entry for entry in entries if entry.name not in self._unlogged_names and entry.is_visible]
        records = [entry.record(self._described(entry).metrics) for entry in visible]
        return [r for r in records if r.file not in logged or repr(r.metrics) not in (logged[r.file], no_metrics)]

    def _listed(self) -> list[tuple[files.Entry, Saved]]:
        """Return every checkpoint with its description. Look again if one goes before its metrics are read."""
        listed: list[tuple[files.Entry, Saved]] = []
        for _ in range(MOST_LOOKS):
            listed = [(entry, self._described(entry)) for entry in self._entries()]
            unread = [entry for entry, _ in listed if entry not in self._saved]
            if all(files.entry_at(entry.step, entry.path) == entry for entry in unread):
                break
        return listed

    def _entries(self) -> list[files.Entry]:
        entries = files.entries(self.folder)
        for gone in self._saved.keys() - set(entries):
            self._saved.pop(gone, None)
        return entries

    def _described(self, entry: files.Entry) -> Saved:
        """Return step, path and metrics. The metrics of a checkpoint are read once."""
        saved = self._saved.get(entry)
        if saved is None:
            metrics = files.metrics_of(entry.path)
            saved = Saved(entry.step, entry.path, metrics or {})
            if metrics is not None:
                self._saved[entry] = saved
        return saved

    def _newest_first(self) -> list[files.Entry]:
        self._background.wait()
        return self._entries()[::-1]

    def _best_first(self) -> list[files.Entry]:
        """Return the checkpoints that may be the best: first those whose metrics cannot be read, then the best."""
        self._background.wait()
        listed = self._listed()
        entry_of = {saved.path: entry for entry, saved in listed}
        ranked = [entry_of[saved.path] for saved in self._retention.ranked(saved for _, saved in listed)]
        return [entry for entry, _ in listed if entry not in self._saved] + ranked
