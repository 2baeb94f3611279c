"""What a process does to a folder, recorded with strace and replayed on the model of a disk.

Every system call that changes a file or a name is either understood or an error, so that code that begins to use
another one cannot escape unseen. At the end, the model must equal the folder.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from disk import Disk, Flush, Node, Note

_NOTE = "/power-cut/"
_LINE = re.compile(r"(\d+) +(.*)\n")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\w+)(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH_OF_DESCRIPTOR = re.compile(r"<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_STATUS = re.compile(r"st_ino=(\d+),.* st_mtime=(\d+) .* st_mtime_nsec=(\d+)")
_UNFINISHED = " <unfinished ...>"


def why_not() -> str:
    """Return why nothing can be recorded here, or an empty text."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "power cuts are recorded with strace, which is not installed"
    probe = subprocess.run(["strace", "-f", "--seccomp-bpf", "-o", os.devnull, "true"], capture_output=True, text=True)
    return f"strace does not work here: {probe.stderr.strip()}" if probe.returncode else ""


def note(text: str) -> None:
    """Leave a note in the recording of this process."""
    os.access(_NOTE + text, os.F_OK)


def record(commands: Sequence[Sequence[str | Path]], root: Path, log: Path) -> Disk:
    """Run commands one after the other, and return what they did to the files in `root`.

    Each may kill itself. Raises RuntimeError if one fails.
    """
    recorder = _Recorder(Disk(root), str(root))
    calls = ",".join(sorted({*recorder.understood, *_HARMLESS, *_REFUSED}))
    options = ["-f", "-qq", "-y", "-xx", "-v", "-s", str(1 << 26), "--seccomp-bpf", "-e", f"trace={calls}"]
    for command in commands:
        done = subprocess.run(["strace", *options, "-o", log, *command], capture_output=True, text=True)
        if done.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
        with log.open(encoding="ascii") as lines:
            for line in lines:
                recorder.take(line)
        recorder.end()
    differences = list(_differences(recorder.disk, root, Disk.ROOT))
    assert not differences, f"the recording missed something: {differences}"
    return recorder.disk


# Notes are left by a call that fails. The other two may change a file: see _refuse.
_HARMLESS = ("access", "faccessat", "faccessat2", "mmap", "ioctl")
# They change files in a way that is not understood.
_REFUSED = (
    *("creat", "openat2", "truncate", "fallocate", "splice", "vmsplice", "sendfile"),
    *("sync", "syncfs", "sync_file_range", "pwritev", "pwritev2", "symlink", "symlinkat", "chdir", "fchdir"),
    *("process_vm_writev", "io_uring_enter", "io_submit"),
)


def _decoded(found: re.Match[str]) -> bytes:
    return bytes.fromhex(found[1].replace("\\x", ""))


class _Open:
    """An open file: its node, the position of the next read or write, and whether writes go to the end."""

    def __init__(self, node: int, appends: bool) -> None:
        self.node, self.position, self.appends = node, 0, appends


class _Call:
    """A system call that has returned. began: the number of events when it was made."""

    def __init__(self, text: str, began: int) -> None:
        found = _CALL.fullmatch(text)
        assert found, f"strace wrote a line that is not understood: {text[:300]}"
        self.name, arguments, result, _ = found.groups()
        self.result = int(result, 0) if result != "?" else 0
        self.began = began
        self.texts = list(map(_decoded, _TEXT.finditer(arguments)))
        self.paths = [os.fsdecode(_decoded(found)) for found in _PATH_OF_DESCRIPTOR.finditer(arguments)]
        self.status = _STATUS.search(arguments)
        plain = _PATH_OF_DESCRIPTOR.sub("", _TEXT.sub('""', arguments))
        self.arguments = [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", plain)]

    def number(self, position: int) -> int:
        """Return an argument as a number; octal and hexadecimal ones too."""
        text = self.arguments[position]
        return int(text, 8) if re.fullmatch(r"0[0-7]+", text) else int(text, 0)

    def path(self, position: int, folder: int | None = None) -> str:
        """Return the absolute path of an argument. folder: the position of the descriptor that it starts from."""
        text = os.fsdecode(self.texts[sum(one.startswith('"') for one in self.arguments[:position])])
        if folder is None:
            assert text.startswith("/"), f"{self.name} of a relative path: {text}"
            return text
        start = self.paths[sum(one.isdigit() or one == "AT_FDCWD" for one in self.arguments[:folder])]
        return os.path.join(start, text)


class _Recorder:
    """Replays calls on a disk."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk, self._root = disk, root
        self._open: dict[int, _Open] = {}
        self._unfinished: dict[str, tuple[str, int]] = {}
        self.understood: dict[str, Callable[[_Call], None]] = {
            "open": lambda call: self._opened(call, call.path(0), call.arguments[1], 2),
            "openat": lambda call: self._opened(call, call.path(1, 0), call.arguments[2], 3),
            "close": lambda call: self._close(call.number(0), call.number(0)),
            "close_range": lambda call: self._close(call.number(0), call.number(1)),
            "dup": self._duplicate,
            "dup2": self._duplicate,
            "dup3": self._duplicate,
            "fcntl": lambda call: self._duplicate(call) if call.arguments[1].startswith("F_DUPFD") else None,
            "read": self._read,
            "readv": self._read,
            "write": self._write,
            "writev": self._write,
            "pwrite64": lambda call: self._put(call, call.number(3)),
            "copy_file_range": self._copy,
            "lseek": self._seek,
            "ftruncate": self._resize,
            "rename": lambda call: self._rename(call.path(0), call.path(1), ""),
            "renameat": lambda call: self._rename(call.path(1, 0), call.path(3, 2), ""),
            "renameat2": lambda call: self._rename(call.path(1, 0), call.path(3, 2), call.arguments[4]),
            "link": lambda call: self._link(call.path(0), call.path(1)),
            "linkat": lambda call: self._link(call.path(1, 0), call.path(3, 2)),
            "unlink": lambda call: self._remove(call.path(0)),
            "unlinkat": lambda call: self._remove(call.path(1, 0)),
            "rmdir": lambda call: self._remove(call.path(0)),
            "mkdir": lambda call: self._make(call.path(0), Node("folder", call.number(1))),
            "mkdirat": lambda call: self._make(call.path(1, 0), Node("folder", call.number(2))),
            **dict.fromkeys(("stat", "lstat", "fstat", "newfstatat", "statx"), self._look),
            "fsync": self._flush,
            "fdatasync": self._flush,
            "fork": self._forked,
            "vfork": self._forked,
            "clone": self._forked,
            "clone3": self._forked,
        }

    def end(self) -> None:
        """Close the files of a process that has ended."""
        self._open.clear()
        self._unfinished.clear()

    def take(self, line: str) -> None:
        """Replay a line of the log."""
        found = _LINE.fullmatch(line)
        assert found, f"strace wrote a line that is not understood: {line[:300]}"
        process, text = found.groups()
        if text.startswith(("+++", "---")) or text.endswith(" = ?"):
            return
        if text.endswith(_UNFINISHED):
            self._unfinished[process] = text.removesuffix(_UNFINISHED), len(self.disk.events)
            return
        began = len(self.disk.events)
        if resumed := _RESUMED.fullmatch(text):
            start, began = self._unfinished.pop(process)
            text = start + resumed[1]
        call = _Call(text, began)
        if call.result < 0:
            if call.name.endswith(("access", "accessat", "accessat2")) and call.texts[0].startswith(_NOTE.encode()):
                self.disk.events.append(Note(call.texts[0].decode().removeprefix(_NOTE)))
            return
        if call.name in self.understood:
            self.understood[call.name](call)
        else:
            self._refuse(call)

    def _refuse(self, call: _Call) -> None:
        """Refuse a call that changes a recorded file in a way that is not understood."""
        is_harmless = {
            "mmap": lambda: not ("PROT_WRITE" in call.arguments[2] and "MAP_SHARED" in call.arguments[3]),
            "ioctl": lambda: "CLONE" not in call.arguments[1],
        }
        if call.name not in _REFUSED and is_harmless.get(call.name, lambda: True)():
            return
        inside = [path for path in [*call.paths, *map(os.fsdecode, call.texts)] if self._is_inside(path)]
        assert not inside, f"{call.name} of {inside} is not understood"

    def _look(self, call: _Call) -> None:
        """Learn the inode and the time of a recorded file: the process may write them down."""
        if call.name == "fstat" or not call.texts[0]:
            path = call.paths[0]
        else:
            path = call.path(0) if call.name in ("stat", "lstat") else call.path(1, 0)
        if self._is_inside(path) and call.status is not None:
            inode, seconds, rest_ns = map(int, call.status.groups())
            follow = call.name != "lstat" and "AT_SYMLINK_NOFOLLOW" not in str(call.arguments)
            self.disk.inodes[inode] = node = self._find(path, follow)[2]
            if node is not None:
                self.disk.nodes[node].modified_ns = seconds * 10**9 + rest_ns

    def _is_inside(self, path: str) -> bool:
        return path == self._root or path.startswith(f"{self._root}/")

    def _find(self, path: str, follow: bool = True) -> tuple[int, str, int | None]:
        return self.disk.find(path.removeprefix(self._root), follow)

    def _opened(self, call: _Call, path: str, flags: str, mode: int) -> None:
        self._open.pop(call.result, None)
        if not self._is_inside(path):
            return
        folder, name, node = self._find(path)
        if node is None:
            assert "O_CREAT" in flags, f"{path} was opened, and is not in the model"
            node = self.disk.add(Node("file", call.number(mode)))
            self.disk.rename((folder, name, node))
        elif "O_TRUNC" in flags:
            self.disk.resize(node, 0)
        self._open[call.result] = _Open(node, "O_APPEND" in flags)

    def _close(self, first: int, last: int) -> None:
        for number in [number for number in self._open if first <= number <= last]:
            del self._open[number]

    def _duplicate(self, call: _Call) -> None:
        self._open.pop(call.result, None)
        if opened := self._open.get(call.number(0)):
            self._open[call.result] = opened

    def _read(self, call: _Call) -> None:
        if opened := self._open.get(call.number(0)):
            opened.position += call.result

    def _seek(self, call: _Call) -> None:
        if opened := self._open.get(call.number(0)):
            opened.position = call.result

    def _write(self, call: _Call) -> None:
        if opened := self._open.get(call.number(0)):
            offset = len(self.disk.live[opened.node]) if opened.appends else opened.position
            self._put(call, offset)
            opened.position = offset + call.result

    def _put(self, call: _Call, offset: int) -> None:
        if opened := self._open.get(call.number(0)):
            self.disk.write(opened.node, offset, b"".join(call.texts)[: call.result])

    def _copy(self, call: _Call) -> None:
        if opened := self._open.get(call.number(2)):
            offset, place = (int(call.arguments[n].strip("[]")) for n in (1, 3))
            source = self._open[call.number(0)]
            self.disk.write(opened.node, place, bytes(self.disk.live[source.node][offset : offset + call.result]))

    def _resize(self, call: _Call) -> None:
        if opened := self._open.get(call.number(0)):
            self.disk.resize(opened.node, call.number(1))

    def _rename(self, old: str, new: str, flags: str) -> None:
        assert self._is_inside(old) == self._is_inside(new), f"{old} was moved in or out"
        if not self._is_inside(old):
            return
        folder, name, node = self._find(old, follow=False)
        other_folder, other_name, other = self._find(new, follow=False)
        if node != other:  # a rename of one name of a file to another does nothing
            is_swapped = "RENAME_EXCHANGE" in flags
            self.disk.rename((folder, name, other if is_swapped else None), (other_folder, other_name, node))

    def _link(self, old: str, new: str) -> None:
        if self._is_inside(new):
            folder, name, _ = self._find(new, follow=False)
            self.disk.rename((folder, name, self._find(old, follow=False)[2]))

    def _remove(self, path: str) -> None:
        if self._is_inside(path):
            folder, name, _ = self._find(path, follow=False)
            self.disk.rename((folder, name, None))

    def _make(self, path: str, node: Node) -> None:
        if self._is_inside(path):
            folder, name, _ = self._find(path)
            self.disk.rename((folder, name, self.disk.add(node)))

    def _flush(self, call: _Call) -> None:
        if opened := self._open.get(call.number(0)):
            self.disk.events.append(Flush(opened.node, call.began))

    def _forked(self, call: _Call) -> None:
        is_thread = "CLONE_THREAD" in str(call.arguments)
        assert is_thread or not self._open, "the process forked with recorded files open"


def _differences(disk: Disk, path: Path, node: int) -> list[str]:
    """Return the paths that differ between the model and a folder."""
    kind = disk.nodes[node].kind
    if kind == "folder":
        names = {child.name for child in path.iterdir()}
        if names != set(disk.folders[node]):
            return [f"{path}: {sorted(names.symmetric_difference(disk.folders[node]))}"]
        return [line for name, child in disk.folders[node].items() for line in _differences(disk, path / name, child)]
    is_equal = os.readlink(path) == disk.nodes[node].target if kind == "link" else path.read_bytes() == disk.live[node]
    return [] if is_equal else [str(path)]
