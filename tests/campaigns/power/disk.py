"""A model of a disk: what was done to its files and folders, in order, and what has certainly reached it.

POSIX promises that a write is on the disk once fsync of the file has returned, and a name once fsync of its folder
has. Before that, any of them may be there or not, in any order; one change of names, such as a rename, is there as a
whole or not at all. A file's own fsync says nothing about its name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Names(NamedTuple):
    """A change of names. changes: folder, name and the file or folder that it means from now on, or None."""

    changes: tuple[tuple[int, str, int | None], ...]


class Write(NamedTuple):
    """Bytes written to a file."""

    file: int
    offset: int
    data: bytes


class Size(NamedTuple):
    """A change of the size of a file."""

    file: int
    size: int


class Flush(NamedTuple):
    """An fsync of a file or folder that returned. before: the number of events when it was called."""

    file: int
    before: int


class Note(NamedTuple):
    """What the recorded program says about itself."""

    text: str


_MOST_TEXT = 4096
_NUMBER = re.compile(rb"(?<![\w.])\d{2,}(?![\w.])")

Event = Names | Write | Size | Flush | Note


@dataclass
class Node:
    """A file, a folder or a symbolic link, as it was when the recording began or when it was made."""

    kind: str
    mode: int = 0o644
    modified_ns: int | None = None  # as the recorded process saw it last
    target: str = ""
    data: bytes = b""
    names: dict[str, int] = field(default_factory=dict)


class Disk:
    """The nodes by number, and the events. `live` and `folders` are what every process sees, cut or no cut."""

    ROOT = 0

    def __init__(self, root: Path) -> None:
        """Take over what is in a folder. All of it counts as flushed."""
        self.nodes: dict[int, Node] = {}
        self.events: list[Event] = []
        self.live: dict[int, bytearray] = {}
        self.folders: dict[int, dict[str, int]] = {}
        self.inodes: dict[int, int | None] = {}  # inode in the recorded system -> node
        self.mentioned: dict[int, dict[int, int]] = {}  # file -> the inodes in its text, and which nodes they meant
        self._take_over(root, {})
        for file in self.live:
            self._note_inodes(file)

    def _take_over(self, path: Path, known: dict[tuple[int, int], int]) -> int:
        status = path.lstat()
        key = status.st_dev, status.st_ino
        if key in known:
            return known[key]
        if path.is_symlink():
            node = Node("link", target=os.readlink(path))
        elif path.is_dir():
            node = Node("folder", status.st_mode & 0o777)
        else:
            node = Node("file", status.st_mode & 0o777, data=path.read_bytes())
        node.modified_ns = status.st_mtime_ns
        number = known[key] = self.add(node)
        self.inodes[status.st_ino] = number
        if node.kind == "folder":
            node.names = {child.name: self._take_over(child, known) for child in sorted(path.iterdir())}
            self.folders[number] = dict(node.names)
        return number

    def add(self, node: Node) -> int:
        """Return the number of a new node, which has no name yet."""
        number = len(self.nodes)
        self.nodes[number] = node
        if node.kind == "folder":
            self.folders[number] = dict(node.names)
        elif node.kind == "file":
            self.live[number] = bytearray(node.data)
        return number

    def rename(self, *changes: tuple[int, str, int | None]) -> None:
        """Change names, all at once."""
        event = Names(changes)
        change(self.folders, event)
        self.events.append(event)

    def write(self, file: int, offset: int, data: bytes) -> None:
        """Write to a file."""
        apply(self.live[file], Write(file, offset, data))
        self.events.append(Write(file, offset, data))
        self._note_inodes(file)

    def _note_inodes(self, file: int) -> None:
        """Remember which nodes a small text mentions by inode: on the disk of a replay they have others."""
        if len(self.live[file]) <= _MOST_TEXT:
            for number in map(int, _NUMBER.findall(self.live[file])):
                node = self.inodes.get(number)
                if node is not None:
                    self.mentioned.setdefault(file, {})[number] = node

    def resize(self, file: int, size: int) -> None:
        """Change the size of a file."""
        apply(self.live[file], Size(file, size))
        self.events.append(Size(file, size))

    def find(self, path: str, follow: bool = True) -> tuple[int, str, int | None]:
        """Return the folder, the name in it and the node, if any, of a path that starts at the root.

        Raises KeyError if a folder on the way is missing.
        """
        folder, parts = [self.ROOT], [part for part in path.split("/") if part not in ("", ".")]
        for number, part in enumerate(parts):
            if part == "..":
                folder.pop()
                continue
            node = self.folders[folder[-1]].get(part)
            is_last = number == len(parts) - 1
            if node is not None and self.nodes[node].kind == "link" and (follow or not is_last):
                target = self.nodes[node].target
                assert not target.startswith("/"), f"the model follows relative links only, not {target}"
                before = "/".join(parts[:number])
                return self.find("/".join([before, target, *parts[number + 1 :]]), follow)
            if is_last:
                return folder[-1], part, node
            if node is None or self.nodes[node].kind != "folder":
                raise KeyError(path)
            folder.append(node)
        return folder[-1], "", folder[-1]


def apply(content: bytearray, event: Write | Size) -> None:
    """Do to the bytes of a file what an event did."""
    size = event.size if isinstance(event, Size) else max(len(content), event.offset + len(event.data))
    if size < len(content):
        del content[size:]
    content.extend(bytes(size - len(content)))
    if isinstance(event, Write):
        content[event.offset : event.offset + len(event.data)] = event.data


@dataclass
class Cut:
    """What a power cut after a number of events leaves certain, and what it leaves open.

    folders, names: the names that are certain, and the changes that are not, in order. files: the same of contents.
    earlier: how many of `names` came before a change that is certain. notes: what the program had said.
    """

    folders: dict[int, dict[str, int]]
    names: list[Names]
    files: dict[int, tuple[bytes, list[Write | Size]]]
    earlier: int
    notes: list[str]


def cuts(disk: Disk) -> Iterator[Cut]:
    """Yield what is certain and open before the first event and after each."""
    for end in range(len(disk.events) + 1):
        yield _cut(disk, disk.events[:end])


def _cut(disk: Disk, events: list[Event]) -> Cut:
    flushed: dict[int, int] = {}
    for event in events:
        if isinstance(event, Flush):
            flushed[event.file] = max(flushed.get(event.file, 0), event.before)
    folders = {number: dict(node.names) for number, node in disk.nodes.items() if node.kind == "folder"}
    contents = {number: bytearray(node.data) for number, node in disk.nodes.items() if node.kind == "file"}
    names: list[Names] = []
    pending: dict[int, list[Write | Size]] = {}
    earlier = 0
    for position, event in enumerate(events):
        if isinstance(event, Names):
            if any(position < flushed.get(folder, 0) for folder, _, _ in event.changes):
                change(folders, event)
                names = _without(names, event)
                earlier = len(names)
            else:
                names.append(event)
        elif isinstance(event, Write | Size):
            if position < flushed.get(event.file, 0):
                apply(contents[event.file], event)
            else:
                pending.setdefault(event.file, []).append(event)
    files = {number: (bytes(content), pending.get(number, [])) for number, content in contents.items()}
    return Cut(folders, names, files, earlier, [event.text for event in events if isinstance(event, Note)])


def _without(names: list[Names], later: Names) -> list[Names]:
    """Return changes without those of the names that a later, certain change sets."""
    keys = {one[:2] for one in later.changes}
    left = [Names(tuple(one for one in event.changes if one[:2] not in keys)) for event in names]
    return [event for event in left if event.changes]


def with_numbers(text: bytes, new: Mapping[int, int]) -> bytes:
    """Return a text with other numbers, all replaced at once: a new inode may be an old one of another file."""

    def replaced(found: re.Match[bytes]) -> bytes:
        number = int(found[0])
        return b"%d" % new[number] if number in new else found[0]

    return _NUMBER.sub(replaced, text)


def change(folders: dict[int, dict[str, int]], event: Names) -> None:
    """Do to the names in folders what an event did."""
    for folder, name, node in event.changes:
        if node is None:
            folders[folder].pop(name, None)
        else:
            folders[folder][name] = node
