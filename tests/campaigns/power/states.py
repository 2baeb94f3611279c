"""The states of a disk that POSIX allows after a power cut, and their replay into a folder."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from disk import Cut, Disk, Size, Write, apply, change, with_numbers

# Disks write 512 bytes at a time, whole or not at all.
_SECTOR_BYTES = 512
_MOST_NAMES = 7
_MOST_COMBINATIONS = 12
_STALE = b"\xa5"  # what was on the disk where a new file got its blocks


class Tree(NamedTuple):
    """A state of the disk. files: paths, nodes, and the contents of files; folders come before what is in them.

    is_ordered: whether the names are such that a file system leaves them which writes names in order.
    """

    files: tuple[tuple[str, int, bytes | None], ...]
    is_ordered: bool


def trees(disk: Disk, cut: Cut, most: int, seed: int) -> Iterator[Tree]:
    """Yield at most so many states that a cut may leave, with repetitions; the same for the same seed.

    First come the subsets of names, with each file as it was before, at each write and after; then files that are torn.
    If all names and files are certain, there is one state.
    """
    chance = random.Random(seed)
    contents = {file: _contents(*of_file) for file, of_file in cut.files.items()}
    torn = {file for file, options in contents.items() if len(options) > 1}

    def systematic() -> Iterator[Tree]:
        for mask in _masks(len(cut.names), chance):
            nodes = _nodes(disk, cut, mask)
            files = sorted({node for _, node in nodes if node in contents})
            for chosen in _choices([contents[file] for file in files], chance):
                yield _tree(nodes, dict(zip(files, chosen, strict=True)), cut, mask)

    def drawn() -> Iterator[Tree]:
        while torn:
            mask = tuple(chance.random() < 0.7 for _ in cut.names)
            content = {
                file: _torn(*cut.files[file], chance) if file in torn else contents[file][0] for file in contents
            }
            yield _tree(_nodes(disk, cut, mask), content, cut, mask)

    return itertools.chain(itertools.islice(systematic(), 2 * most // 3), itertools.islice(drawn(), most // 3))


def after_kill(disk: Disk, cut: Cut) -> Tree:
    """Return what is there if the process is killed and the system goes on: everything that was done."""
    mask = (True,) * len(cut.names)
    contents = {file: _contents(*of_file)[-1] for file, of_file in cut.files.items()}
    return _tree(_nodes(disk, cut, mask), contents, cut, mask)


def _tree(nodes: list[tuple[str, int]], content: dict[int, bytes], cut: Cut, mask: tuple[bool, ...]) -> Tree:
    is_ordered = list(mask) == sorted(mask, reverse=True) and all(mask[: cut.earlier])
    return Tree(tuple((path, node, content.get(node)) for path, node in nodes), is_ordered)


def _nodes(disk: Disk, cut: Cut, mask: tuple[bool, ...]) -> list[tuple[str, int]]:
    """Return the paths and nodes on the disk if the chosen changes of names have reached it."""
    folders = {folder: dict(names) for folder, names in cut.folders.items()}
    for event in itertools.compress(cut.names, mask):
        change(folders, event)
    return list(_paths(folders, Disk.ROOT, ""))


def _paths(folders: dict[int, dict[str, int]], folder: int, path: str) -> Iterator[tuple[str, int]]:
    for name, node in folders[folder].items():
        yield f"{path}{name}", node
        if node in folders:
            yield from _paths(folders, node, f"{path}{name}/")


def _masks(count: int, chance: random.Random) -> Iterator[tuple[bool, ...]]:
    """Yield which of the changes of names have reached the disk: in order first, then every way or a sample."""
    places = range(count)
    yield from (tuple(place < end for place in places) for end in range(count + 1))
    if count <= _MOST_NAMES:
        others = list(itertools.product((False, True), repeat=count))
        chance.shuffle(others)
        yield from others
        return
    yield from (tuple(place != one for place in places) for one in places)
    yield from (tuple(place == one for place in places) for one in places)
    yield from (tuple(chance.random() < 0.5 for _ in places) for _ in range(2**_MOST_NAMES))


def _choices(options: list[list[bytes]], chance: random.Random) -> Iterator[tuple[bytes, ...]]:
    """Yield a content for each file: all combinations if they are few, otherwise a sample with each content in it."""
    total = 1
    for contents in options:
        total *= len(contents)
    if total <= _MOST_COMBINATIONS:
        yield from itertools.product(*options)
        return
    for number in range(max(map(len, options))):
        yield tuple(contents[min(number, len(contents) - 1)] for contents in options)
    for _ in range(_MOST_COMBINATIONS):
        yield tuple(map(chance.choice, options))


def _contents(before: bytes, pending: list[Write | Size]) -> list[bytes]:
    """Return what a file may hold: as it was flushed, with the size changed alone, and after each write."""
    content, found = bytearray(before), []
    for event in pending:
        apply(content, event)
        found.append(bytes(content))
    alone = [before.ljust(max(map(len, found)), filling) for filling in (b"\0", _STALE)] if found else []
    return list(dict.fromkeys([before, *alone, *found]))


def _torn(before: bytes, pending: list[Write | Size], chance: random.Random) -> bytes:
    """Return a content in which each sector that was written is old, new, empty or stale, and which ends anywhere."""
    written = _contents(before, pending)
    longest = max(map(len, written))
    after = written[-1].ljust(longest, b"\0")
    size = chance.choice([*map(len, written), chance.randrange(longest + 1) // _SECTOR_BYTES * _SECTOR_BYTES])
    result = bytearray(before.ljust(size, b"\0")[:size])
    for start in range(0, size, _SECTOR_BYTES):
        end = min(start + _SECTOR_BYTES, size)
        if before[start:end] == after[start:end]:
            continue
        kinds = ("new", "new", "old") if start < len(before) else ("new", "new", "empty", "stale")
        kind = chance.choice(kinds)
        if kind == "new":
            result[start:end] = after[start:end]
        elif kind == "stale":
            result[start:end] = _STALE * (end - start)
    return bytes(result)


def replay(disk: Disk, tree: Tree, folder: Path) -> None:
    """Make the files of a state in an empty folder."""
    made: dict[int, Path] = {Disk.ROOT: folder}
    for path, node, content in tree.files:
        here, kind = folder / path, disk.nodes[node].kind
        if kind == "folder":
            here.mkdir()
        elif kind == "link":
            here.symlink_to(disk.nodes[node].target)
        elif node in made:
            os.link(made[node], here)
        else:
            here.write_bytes(content or b"")
            here.chmod(disk.nodes[node].mode)
        made.setdefault(node, here)
    for node in disk.mentioned.keys() & made.keys():
        inodes = {
            inode: made[other].stat().st_ino if other in made else 0 for inode, other in disk.mentioned[node].items()
        }
        made[node].write_bytes(with_numbers(made[node].read_bytes(), inodes))
    for node, path in made.items():
        modified_ns = disk.nodes[node].modified_ns
        if disk.nodes[node].kind == "file" and modified_ns is not None:
            os.utime(path, ns=(modified_ns, modified_ns))
