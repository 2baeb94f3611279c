"""Read every hostile file in every way, and count the outcomes. `make hostile` takes a quarter of an hour."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import read_corpus
from corpus.hostile_file import HostileFile
from corpus.make_corpus import CORPUS, make_corpus
from corpus.other_files import marker_of

Read = tuple[str, str]  # a path, and a way of reading it

MOST_TEXT = 2000
# The memory that a header may take as Python objects, besides what is needed anyway.
FREE_BYTES, BYTES_PER_BYTE = 48 << 20, 64
# A process for libhdf5 may take 512 MiB and four times what the file may expand to.
MOST_CHILD_BYTES = 1280 << 20
# These read no tensor, so damage in one is not their concern.
_HEADER_ONLY = {"read_metadata", "inspect", "fingerprint"}
# These report the damage, save the rest or keep the digests that show it, instead of raising.
_TOLERANT = {"verify", "repair", "edit"}


def read_all(reads: Sequence[Read], processes: int = 2) -> dict[Read, dict[str, Any]]:
    """Return the outcome of each read: what read_corpus.py prints, or `died` with the last output of the process."""
    with ThreadPoolExecutor(processes) as pool:
        parts = pool.map(_read_in_a_process, (reads[number::processes] for number in range(processes)))
        return {read: outcome for part in parts for read, outcome in part.items()}


def _read_in_a_process(reads: Sequence[Read]) -> dict[Read, dict[str, Any]]:
    outcomes: dict[Read, dict[str, Any]] = {}
    while len(outcomes) < len(reads):
        rest = reads[len(outcomes) :]
        with tempfile.TemporaryDirectory() as folder:
            finished = subprocess.run(
                [sys.executable, read_corpus.__file__, folder],
                input="".join(f"{json.dumps(read)}\n" for read in rest),
                capture_output=True,
                text=True,
            )
        lines = [json.loads(line) for line in finished.stdout.splitlines()]
        assert lines or not finished.returncode, finished.stderr
        outcomes |= {tuple(read): outcome for read, outcome in zip(lines[::2], lines[1::2], strict=False)}
        if len(lines) % 2:
            outcomes[tuple(lines[-1])] = {"died": f"{finished.returncode}: {finished.stderr[-2000:]}"}
    return outcomes


def problems_of(hostile: HostileFile, read: Read, outcome: Mapping[str, Any]) -> Iterable[str]:
    """Yield what is wrong with an outcome: nothing if the file did no harm and the error says why."""
    if "died" in outcome:
        yield f"it ended the process, {outcome['died']}"
        return
    path, way = read
    size_bytes = Path(path).stat().st_size if Path(path).is_file() else 0
    if outcome["error"] is None:
        excused = hostile.cause is None or way in _TOLERANT or (hostile.only_data and way in _HEADER_ONLY)
        if not excused:
            yield "it loads"
    elif not outcome["is_ours"]:
        yield f"it raises {outcome['error']}: {outcome['text']}"
    else:
        yield from _problems_of_text(hostile, read, outcome)
    if outcome["seen"] or outcome["left"]:
        yield f"it opens {outcome['seen']} and leaves {outcome['left']}"
    if outcome["growth_bytes"] > FREE_BYTES + BYTES_PER_BYTE * size_bytes or outcome["child_bytes"] > MOST_CHILD_BYTES:
        yield f"it takes {outcome['growth_bytes']:,} bytes, {outcome['child_bytes']:,} in a process for libhdf5"


def _problems_of_text(hostile: HostileFile, read: Read, outcome: Mapping[str, Any]) -> Iterable[str]:
    (path, way), text = read, outcome["text"]
    if way not in _TOLERANT and not re.search(hostile.cause or "", text, re.DOTALL):
        yield f"it does not say {hostile.cause!r} but {text}"
    if Path(path).name.split(".")[0] not in text:  # or one of its shards
        yield f"it does not name the file: {text}"
    if outcome["text_length"] > MOST_TEXT:
        yield f"it takes {outcome['text_length']:,} letters to say so"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        make_corpus(Path(folder))
        hostiles = {str(Path(folder, hostile.file_name)): hostile for hostile in CORPUS}
        outcomes = read_all([(path, way) for path in hostiles for way in read_corpus.WAYS])
        loaded_pickle = marker_of(Path(folder)).exists()
        problems = [
            f"{hostiles[read[0]].title}, {read[1]}: {problem}"
            for read, outcome in outcomes.items()
            for problem in problems_of(hostiles[read[0]], read, outcome)
        ]
    kinds = Counter(str(outcome.get("error", "died")) for outcome in outcomes.values())
    print(f"{len(hostiles)} files, {len(outcomes):,} reads, pickles loaded: {'yes' if loaded_pickle else 'none'}")
    print(", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    print(*problems, f"{len(problems)} problems", sep="\n")
    sys.exit(bool(problems or loaded_pickle))


if __name__ == "__main__":
    main()
