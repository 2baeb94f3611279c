"""Damage files at random, and count the outcomes of reading them: `make damage`, or `python damage.py COUNT`.

Each of COUNT files of a kind is a good one with a bit flipped, cut off, or with a block doubled, overwritten by another
or zeroed, anywhere: header, data, padding, HDF5 structure. Damage number N of a kind is always the same. Files are read
in processes of their own, in turn at once, mapped, lazily, and by slices. What may come of it:

    reported     a CheckpointError
    identical    all that was saved, bit for bit
    unchecked    another result, in a foreign file, which has no digests
    WRONG        another result, and no error
    RAISED       an exception that is not ours
    CRASHED, HUNG   the process ended, or had to be ended
"""

from __future__ import annotations

import faulthandler
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import ml_dtypes
import numpy as np

from statezoo import zoo
from statezoo.checkpoints import CheckpointError, load_file, open_checkpoint, read_metadata, save_file
from statezoo.checkpoints.testing import compare_states
from statezoo.core import ModuleError
from statezoo.zoo.entry import MANIFEST, manifest_text
from statezoo.zoo.loading import find

LIMIT_S = 120
HARMLESS = ("reported", "identical", "unchecked")
METADATA = {"epoch": "7", "note": "ünïcödé"}


def a_state() -> dict[str, Any]:
    weight = np.arange(120, dtype=np.float32).reshape(10, 12)
    base = np.arange(90.0)
    return {
        "layers.0.weight": weight,
        "layers.0.bias": np.arange(10, dtype=np.float16),
        "tied": weight,
        "view": weight.T,
        "a": base[:50],
        "b": base[30:],
        "layers.0._extra_state": {"step": 7},
        "half": np.ones((3, 5), ml_dtypes.bfloat16),
        "flags": np.array([True, False, True]),
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.uint8),
    }


def _save(path: Path) -> None:
    save_file(a_state(), path, METADATA)


def _save_large(path: Path) -> None:
    """Save a state with a tensor of several blocks and a view of it."""
    large = np.arange(40_000, dtype=np.float32)
    save_file(a_state() | {"large": large, "large view": large[::-3]}, path, METADATA)


def _save_with_h5py(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["layer/weight"] = np.arange(600.0).reshape(20, 30)
        file["layer/tied"] = file["layer/weight"]
        file.create_dataset("layer/packed", data=np.arange(900.0), chunks=(100,), compression="gzip", shuffle=True)
        file.create_dataset("checked", data=np.arange(90), chunks=(30,), fletcher32=True)
        file.create_dataset("unwritten", (5,), "f4", fillvalue=7)
        file["layer"].attrs["names"] = ["weight", "tied"]


def _save_with_numpy(path: Path) -> None:
    arrays = {
        "weight": np.arange(600.0).reshape(20, 30),
        "turned": np.asfortranarray(np.ones((3, 4))),
        "big": np.arange(9, dtype=">i4"),
    }
    np.savez(path, **arrays)


def _save_compressed_with_numpy(path: Path) -> None:
    np.savez_compressed(path, weight=np.arange(600.0).reshape(20, 30), bias=np.ones(30, np.float32))


def _save_shards(path: Path) -> None:
    save_file(a_state(), path, METADATA, max_shard_size=300)


def _copy_entry(path: Path) -> None:
    shutil.copytree(find("linear-regression"), path)
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    (path / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")


def damaged(content: bytes, seed: str) -> tuple[str, bytes]:
    """Return the name of the damage and the damaged content, both determined by the seed."""
    chance = random.Random(seed)
    what = chance.choices(("flip", "cut", "doubled", "overwritten", "zeroed"), (12, 2, 2, 2, 2))[0]
    size = min(len(content) - 1, 1 << chance.randrange(11))
    start = chance.randrange(len(content) - size + 1)
    block, after = content[start : start + size], content[start + size :]
    if what == "flip":
        place = chance.randrange(len(content))
        bit = content[place] ^ 1 << chance.randrange(8)
        return what, content[:place] + bytes([bit]) + content[place + 1 :]
    if what == "cut":
        return what, content[: chance.randrange(len(content))]
    if what == "doubled":
        return what, content[:start] + block + block + after
    if what == "overwritten":
        other = chance.randrange(len(content) - size + 1)
        return what, content[:start] + content[other : other + size] + after
    return what, content[:start] + bytes(size) + after


def _at_once(path: Path) -> dict[str, Any]:
    return load_file(path)


def _mapped(path: Path) -> dict[str, Any]:
    return load_file(path, mmap=True)


def _lazily(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as opened:
        tensors = {id(value): value[...] for value in opened.values() if hasattr(value, "shape")}
        return {name: tensors.get(id(value), value) for name, value in opened.items()}


def _by_slices(path: Path) -> dict[str, Any]:
    """Return the state with each tensor read as two slices and put together."""
    with open_checkpoint(path) as opened:
        return {
            name: _joined(value) if getattr(value, "shape", ()) else _whole(value) for name, value in opened.items()
        }


def _joined(tensor: Any) -> np.ndarray:
    return np.concatenate([tensor[:1], tensor[1:]])


def _whole(value: Any) -> Any:
    return value[...] if hasattr(value, "shape") else value


def _as_an_entry(path: Path) -> dict[str, Any]:
    return zoo.load(f"file:{path}").state_dict()


def _card(path: Path) -> dict[str, str]:
    return {"card": zoo.card(f"file:{path}")}


class Kind(NamedTuple):
    """A kind of checkpoint. share: the share of COUNT that is damaged; smaller if each takes a process to read.

    files: those of which one is damaged at a time; by default the checkpoint itself. ways: how it is read.
    """

    suffix: str
    make: Callable[[Path], None]
    has_digests: bool
    share: float
    files: Callable[[Path], list[Path]] = lambda path: [path]
    ways: tuple[Callable[[Path], dict[str, Any]], ...] = (_at_once, _mapped, _lazily, _by_slices)
    metadata: Callable[[Path], dict[str, str]] = read_metadata


KINDS = {
    "safetensors": Kind(".safetensors", _save, True, 1),
    "HDF5": Kind(".h5", _save, True, 1),
    "npz": Kind(".npz", _save, True, 1),
    "npz of several blocks": Kind(".npz", _save_large, True, 0.5),
    "npz of NumPy": Kind(".npz", _save_with_numpy, False, 0.5),
    "npz of NumPy, compressed": Kind(".npz", _save_compressed_with_numpy, False, 0.5),
    "safetensors of several blocks": Kind(".safetensors", _save_large, True, 0.5),
    "HDF5 of several blocks": Kind(".h5", _save_large, True, 0.5),
    "shards": Kind(".safetensors", _save_shards, True, 0.5, lambda path: sorted(path.parent.iterdir())),
    "HDF5 of h5py": Kind(".h5", _save_with_h5py, False, 0.1),
    "entry": Kind("", _copy_entry, True, 0.1, lambda path: sorted(path.iterdir()), (_as_an_entry,), _card),
}


def _differs(before: dict[str, Any], after: dict[str, Any], memory: bool) -> bool:
    """Return True if two states differ. memory: compare sharing too."""
    if memory:
        return any(compare_states(before, after))
    plain = [{name: np.array(v) if hasattr(v, "shape") else v for name, v in s.items()} for s in (before, after)]
    return any(compare_states(*plain))


def _outcome(
    kind: Kind, path: Path, way: Callable[[Path], dict[str, Any]], good: dict[str, Any], metadata: dict[str, str]
) -> str:
    try:
        loaded, found = way(path), kind.metadata(path)
    except (CheckpointError, ModuleError, zoo.ZooError):
        return "reported"
    except BaseException as error:
        return f"RAISED {type(error).__name__}: {error}"
    # Tensors read in pieces no longer share memory.
    return "WRONG" if _differs(good, loaded, way in (_at_once, _mapped)) or found != metadata else "identical"


def work(kind: Kind, title: str) -> None:
    """Read the damaged files whose numbers arrive on standard input. Print the damage and the outcome for each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"state{kind.suffix}")
        kind.make(path)
        files = {file: file.read_bytes() for file in kind.files(path)}
        good, metadata = kind.ways[0](path), kind.metadata(path)
        for line in sys.stdin:
            number = int(line)
            file, content = list(files.items())[number // len(kind.ways) % len(files)]
            what, changed = damaged(content, f"{title} {number}")
            file.write_bytes(changed)
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            outcome = _outcome(kind, path, kind.ways[number % len(kind.ways)], good, metadata)
            faulthandler.cancel_dump_traceback_later()
            file.write_bytes(content)
            if outcome == "WRONG" and not kind.has_digests:
                outcome = "unchecked"
            print(json.dumps([what, outcome]), flush=True)


def outcomes_of(title: str, numbers: range) -> Iterator[tuple[str, str]]:
    """Yield the damage and the outcome for each number."""
    while numbers:
        command = [sys.executable, __file__, "work", title]
        lines = "".join(f"{number}\n" for number in numbers)
        finished = subprocess.run(command, input=lines, capture_output=True, text=True)
        found = [tuple(json.loads(line)) for line in finished.stdout.splitlines()]
        yield from found
        numbers = numbers[len(found) :]
        if finished.returncode:
            how = "HUNG" if "Timeout" in finished.stderr else "CRASHED"
            yield f"number {numbers[0]}", f"{how} {finished.returncode}: {finished.stderr[-500:]}"
            numbers = numbers[1:]


def count(title: str, files: int) -> Counter[tuple[str, str]]:
    """Return how often each kind of damage had each outcome, counted in two processes."""
    total: Counter[tuple[str, str]] = Counter()
    half = files // 2
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda part: Counter(outcomes_of(title, part)), (range(half), range(half, files))):
            total += found
    return total


def main(files: int) -> None:
    is_harmless = True
    for title, kind in KINDS.items():
        counts = count(title, int(files * kind.share))
        print(f"{title}: {counts.total():,} files")
        for (what, outcome), times in sorted(counts.items()):
            print(f"  {what:12} {outcome:12} {times:7,}", flush=True)
            is_harmless &= outcome in HARMLESS
    sys.exit(not is_harmless)


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(KINDS[sys.argv[2]], sys.argv[2])
    else:
        main(int(sys.argv[1]))
