"""The checkpoints that a history may remove: those that it saved, and those that were there when it was opened."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

from ...storage.identity import Identity
from . import files, removal
from .log import Log
from .savers import is_another_alive, this_process


class _Seen(NamedTuple):
    """A checkpoint. files: those that it had when it was saved or first seen.

    saver: the process that saved it, see savers.py; None until it is looked up in the log. is_own: this history saved
    it, and it needs no other proof.
    """

    files: Mapping[str, Identity]
    saver: str | None = None
    is_own: bool = False


class Known:
    """The checkpoints that a history may remove. One that appears later belongs to another process, or to a person."""

    def __init__(self, folder: str, log: Log, durable: bool) -> None:
        self._folder, self._log, self._durable = folder, log, durable
        seen = {entry: _Seen(removal.files_of(entry)) for entry in files.entries(folder)}
        self._seen = {entry: found for entry, found in seen.items() if removal.is_complete(entry)}

    def __contains__(self, entry: files.Entry) -> bool:
        return entry in self._seen

    def add(self, entry: files.Entry) -> None:
        """Add a checkpoint that this history has just saved."""
        self._seen[entry] = _Seen(removal.files_of(entry), this_process(), is_own=True)

    def remove_old(self, entries: Iterable[files.Entry], kept: Container[int], written: files.Entry) -> None:
        """Remove known checkpoints whose steps are not kept, and those of the step just written in another format."""
        savers: dict[str, str] | None = None
        for entry in entries:
            seen = self._seen.get(entry)
            is_replaced = entry.step == written.step and entry.path != written.path
            if seen is None or entry == written or (entry.step in kept and not is_replaced):
                continue
            if seen.saver is None:
                savers = self._log.savers() if savers is None else savers
                self._seen[entry] = seen = seen._replace(saver=savers.get(entry.name, ""))
            if not is_another_alive(seen.saver or ""):  # a living process removes its own
                removal.remove(self._folder, entry, seen.files, seen.is_own, self._durable)
        known = self._seen.copy()  # before the names are listed: a handler may save in between
        names = set(files.names(self._folder))
        for entry in known:
            if entry.name not in names:
                self._seen.pop(entry, None)
