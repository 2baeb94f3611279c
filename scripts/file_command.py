"""The verbs of the command `statezoo` on checkpoint files: inspect, diff, convert, repair, fingerprint."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .. import checkpoints
from ..checkpoints import CheckpointError

EXAMPLES = {
    "inspect": "statezoo inspect model.safetensors --json",
    "diff": "statezoo diff before.safetensors after.h5",
    "convert": "statezoo convert model.h5 model.safetensors --max-shard-size 5GB",
    "repair": "statezoo repair model.safetensors intact.safetensors",
    "fingerprint": "statezoo fingerprint model.h5",
}

# Less than this is done before one could read how far it is.
_LONG_BYTES = 1 << 26
_FILE = "a .safetensors or .h5 file, or the index or the folder of a sharded checkpoint"


class Outcome(NamedTuple):
    """What a verb has to say, and the exit status: 1 if a file is damaged, or two differ."""

    text: str
    status: int = 0


def add_verbs(verbs: Any) -> None:
    """Add the verbs on files to the subparsers of a parser."""
    verb = add_verb(
        verbs, "inspect", _inspect, "names, shapes, dtypes, digests, ties and metadata of a file", EXAMPLES["inspect"]
    )
    verb.add_argument("file", help=_FILE)

    verb = add_verb(
        verbs, "diff", _diff, "in what two files differ, of either format; status 1 if they do", EXAMPLES["diff"]
    )
    verb.add_argument("before", help=_FILE)
    verb.add_argument("after", help="another")

    verb = add_verb(
        verbs, "convert", _convert, "write a file in another format, or in other shards", EXAMPLES["convert"]
    )
    verb.add_argument("source", help=_FILE)
    verb.add_argument("target", help="a path ending in .safetensors, .h5 or .npz, which picks the format")
    verb.add_argument("--max-shard-size", metavar="SIZE", type=_size, help="the most bytes of a shard, such as 5GB")

    verb = add_verb(
        verbs,
        "repair",
        _repair,
        "save what is intact of a damaged file; status 1 if something is lost",
        EXAMPLES["repair"],
    )
    verb.add_argument("file", help=_FILE)
    verb.add_argument("out", nargs="?", help="where to; for model.h5, if not given, model.repaired.h5")

    verb = add_verb(
        verbs, "fingerprint", _fingerprint, "the hash of the content, the same in all formats", EXAMPLES["fingerprint"]
    )
    verb.add_argument("file", help=_FILE)


def verify_file(file: str, as_json: bool) -> Outcome:
    """Whether every byte of a file is what was written; for the verb verify, which takes entries as well."""
    with _progress("verify", _stored_bytes(file)) as progress:
        found = checkpoints.verify(file, progress=progress)
    return _outcome(found, as_json, 0 if found.intact else 1)


def add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], Outcome], summary: str, example: str
) -> argparse.ArgumentParser:
    """Return the parser of a verb that has --json and whose outcome run gives, added to the subparsers of another."""
    verb = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--json", action="store_true", help="as JSON, for programs")
    verb.set_defaults(run=run)
    return verb


def _size(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _inspect(parsed: argparse.Namespace) -> Outcome:
    return _outcome(checkpoints.inspect(parsed.file), parsed.json)


def _diff(parsed: argparse.Namespace) -> Outcome:
    with _progress("diff", _stored_bytes(parsed.before)) as progress:
        found = checkpoints.diff(parsed.before, parsed.after, progress=progress)
    return _outcome(found, parsed.json, 0 if found.same else 1)


def _convert(parsed: argparse.Namespace) -> Outcome:
    stored_bytes = _stored_bytes(parsed.source)
    with _progress("convert", stored_bytes) as progress:
        checkpoints.convert(parsed.source, parsed.target, max_shard_size=parsed.max_shard_size, progress=progress)
    if parsed.json:
        return Outcome(_json({"source": parsed.source, "target": parsed.target, "stored_bytes": stored_bytes}))
    return Outcome(f"{parsed.source} -> {parsed.target}: {stored_bytes:,} bytes of tensors")


def _repair(parsed: argparse.Namespace) -> Outcome:
    stem, suffix = os.path.splitext(parsed.file)
    size_bytes = os.path.getsize(parsed.file) if os.path.isfile(parsed.file) else 0
    with _progress("repair", 2 * size_bytes) as progress:  # read once to be checked, once to be copied
        found = checkpoints.repair(parsed.file, parsed.out or f"{stem}.repaired{suffix}", progress=progress)
    return _outcome(found, parsed.json, 0 if found.complete else 1)


def _fingerprint(parsed: argparse.Namespace) -> Outcome:
    with _progress("fingerprint", _stored_bytes(parsed.file)) as progress:
        found = checkpoints.fingerprint(parsed.file, progress=progress)
    return Outcome(_json({"path": parsed.file, "fingerprint": found}) if parsed.json else found)


def _stored_bytes(file: str) -> int:
    """Return how much there is to be read; 0 for what the verb itself is going to refuse."""
    try:
        return checkpoints.inspect(file).stored_bytes
    except CheckpointError:
        return 0


def _outcome(found: Any, as_json: bool, status: int = 0) -> Outcome:
    return Outcome(_json(found.as_dict()) if as_json else str(found), status)


def _json(content: Any) -> str:
    # In ASCII: a name could hold characters that move the cursor of a terminal.
    return json.dumps(content, indent=1)


@contextmanager
def _progress(verb: str, total_bytes: int) -> Iterator[Callable[[int], object] | None]:
    """Give a function that moves a bar on stderr, None if that is no terminal or the work is short."""
    if total_bytes < _LONG_BYTES or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total_bytes, desc=verb, unit="B", unit_scale=True, leave=False) as bar:
        yield bar.update
