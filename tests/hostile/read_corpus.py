"""Read files in every way there is, and print what came of it: `python read_corpus.py OUTPUT FILE...`.

A process of its own, because a file may crash or hang it. Each line is a JSON object: first one that says what starts,
then one that says how it ended. A read that takes longer than the limit ends the process.
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
    "fingerprint": _fingerprint,
}


class _Watch:
    """Notes what is opened, run or unpickled between start and stop."""

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
        elif event in {"pickle.find_class", "os.system", "os.exec", "socket.connect", "exec"}:
            self._seen.append(f"{event} {arguments}"[:200])


def _memory_bytes(line: str) -> int:
    """Return a line of what the system says of this process: VmRSS, or VmHWM, the most it was."""
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
        "seen": [entry for entry in seen if entry != path and not entry.startswith(os.path.dirname(output))],
        "growth_bytes": max(0, _memory_bytes("VmHWM") - before),
        "left": sorted(os.listdir(os.path.dirname(output))) if error else [],
    }


def main(output: str, paths: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    # Imports and a first use of each format, so that what they take is not counted for a file.
    watch = _Watch()
    folder = Path(output).parent
    for suffix in (".safetensors", ".h5"):
        warm = str(folder / f"warm{suffix}")
        checkpoints.save_file({"x": np.ones(3)}, warm)
        for way in WAYS:
            _outcome(way, warm, output, watch)
    for left in folder.iterdir():
        left.unlink()
    for path in paths:
        for way in WAYS:
            print(json.dumps({"path": path, "way": way}), flush=True)
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            print(json.dumps(_outcome(way, path, output, watch)), flush=True)
            faulthandler.cancel_dump_traceback_later()
            for left in folder.iterdir():
                left.unlink()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
