"""Read files in every way, and print the outcomes: `python read_corpus.py FOLDER`.

A process of its own, because a file may crash or hang it. It prints two lines of JSON for each read: what starts, and
how it ended. A read that takes longer than the limit ends the process.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from statezoo import checkpoints

LIMIT_S = 60
ADDRESS_SPACE_BYTES = 8 << 30


def _eager(path: str, output: str) -> None:
    checkpoints.load_file(path)


def _mapped(path: str, output: str) -> None:
    checkpoints.load_file(path, mmap=True)


def _lazy(path: str, output: str) -> None:
    with checkpoints.open_checkpoint(path) as opened:
        for value in opened.values():
            np.asarray(value)


def _metadata(path: str, output: str) -> None:
    checkpoints.read_metadata(path)


def _inspect(path: str, output: str) -> None:
    str(checkpoints.inspect(path))


def _verify(path: str, output: str) -> None:
    str(checkpoints.verify(path))


def _repair(path: str, output: str) -> None:
    checkpoints.repair(path, f"{output}.safetensors")


def _convert(path: str, output: str) -> None:
    checkpoints.convert(path, f"{output}.npz")


def _edit(path: str, output: str) -> None:
    with checkpoints.open_checkpoint(path) as opened:
        first = list(opened)[:1]
    checkpoints.edit(path, drop=first, metadata={"edited": "yes"}, to=f"{output}.h5")


def _fingerprint(path: str, output: str) -> None:
    checkpoints.fingerprint(path)


WAYS: dict[str, Callable[[str, str], None]] = {
    "load_file": _eager,
    "load_file mapped": _mapped,
    "open_checkpoint": _lazy,
    "read_metadata": _metadata,
    "inspect": _inspect,
    "verify": _verify,
    "repair": _repair,
    "convert": _convert,
    "edit": _edit,
    "fingerprint": _fingerprint,
}


class _Watch:
    """A record of what is opened, run or unpickled between start and stop, except Python's own files and ours."""

    def __init__(self) -> None:
        self._seen: list[str] | None = None
        self._own = tuple({sys.prefix, sys.base_prefix, *map(os.path.realpath, checkpoints.__path__)})
        sys.addaudithook(self._note)

    def start(self) -> None:
        self._seen = []

    def stop(self) -> list[str]:
        seen, self._seen = self._seen or [], None
        return seen

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._seen is None:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.fsdecode(arguments[0])
            if not path.startswith(self._own):
                self._seen.append(path)
        elif event in {"pickle.find_class", "os.system", "os.exec", "socket.connect"}:
            self._seen.append(f"{event} {arguments}"[:200])


def _memory_bytes(line: str) -> int:
    """Return a line of the memory status of this process: VmRSS, or VmHWM for its peak."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{line}:")[1].split()[0]) << 10


def _outcome(way: str, path: str, output: str, watch: _Watch) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory_bytes("VmRSS")
    error: BaseException | None = None
    watch.start()
    try:
        WAYS[way](path, output)
    except BaseException as caught:
        error = caught
    seen = watch.stop()
    return {
        "error": type(error).__name__ if error else None,
        "is_ours": isinstance(error, checkpoints.CheckpointError),
        "text": str(error)[:3000] if error else "",
        "text_length": len(str(error)) if error else 0,
        # The shards of an index have names that start like its own.
        "seen": [entry for entry in seen if not entry.startswith((path.split(".")[0], os.path.dirname(output)))],
        "growth_bytes": max(0, _memory_bytes("VmHWM") - before),
        # The peak memory of any libhdf5 process so far.
        "child_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
        "left": sorted(os.listdir(os.path.dirname(output))) if error else [],
    }


def main(folder: Path) -> None:
    """Serve the requests on standard input: each line is a JSON list of a path and a way. folder: empty, for output."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    output, watch = str(folder / "output"), _Watch()
    _warm_up(folder, output, watch)
    for line in sys.stdin:
        path, way = json.loads(line)
        print(json.dumps([path, way]), flush=True)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        print(json.dumps(_outcome(way, path, output, watch)), flush=True)
        faulthandler.cancel_dump_traceback_later()
        _empty(folder)


def _warm_up(folder: Path, output: str, watch: _Watch) -> None:
    """Use each format in each way once, so that imports are not counted for a file."""
    for suffix in (".safetensors", ".h5"):
        warm = str(folder / f"warm{suffix}")
        checkpoints.save_file({"x": np.ones(3)}, warm)
        for way in WAYS:
            _outcome(way, warm, output, watch)
    (folder / "foreign.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (folder / "x.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(16))
    (folder / "x.onnx").write_bytes(b"\x08\x09\x3a\0")
    for foreign in ("foreign.h5", "x.gguf", "x.onnx"):
        _outcome("load_file", str(folder / foreign), output, watch)
    _empty(folder)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        left.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
