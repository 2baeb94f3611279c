"""The verbs of the command `statezoo` that prove something: verify an entry or a file, and repro an entry."""

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

from ..checkpoints.formats import known_suffixes
from ..zoo.errors import InputError
from ..zoo.loading import FILE, find, list_models
from ..zoo.publishing.text import table
from .file_command import Outcome, add_verb, verify_file

EXAMPLES = {
    "verify": "statezoo verify tense-mlp --metrics\n  statezoo verify model.safetensors",
    "repro": "statezoo repro tense-mlp",
}
_NAME = "a model's name, or file:FOLDER for an entry of your own"


def add_verbs(verbs: Any) -> None:
    """Add the verbs to the subparsers of a parser."""
    verb = _add_verb(
        verbs, "verify", _verify, "whether an entry, or a file, is what was published, or written; status 1 if not"
    )
    verb.add_argument(
        "what",
        metavar="NAME|FILE",
        help=f"{_NAME}; or a .safetensors or .h5 file, or the index or the folder of a sharded checkpoint. What a "
        "model is named is the model: ./NAME is the file",
    )
    verb.add_argument("--metrics", action="store_true", help="of an entry: compute the numbers on its card again")

    verb = _add_verb(
        verbs, "repro", _repro, "run a model's recipe again and compare the weights; status 1 if they differ"
    )
    verb.add_argument("name", help=_NAME)


def _add_verb(
    verbs: Any, name: str, run: Callable[[argparse.Namespace], Outcome], summary: str
) -> argparse.ArgumentParser:
    verb = add_verb(verbs, name, run, summary, EXAMPLES[name])
    verb.add_argument("--data", dest="data_folder", help="where the data are, for a recipe that reads some")
    return verb


def _verify(parsed: argparse.Namespace) -> Outcome:
    if _is_entry(parsed.what):
        return _verify_entry(parsed)
    if parsed.metrics:
        raise InputError(f"{parsed.what} is a file, and no file has metrics; name one of {', '.join(list_models())}")
    return verify_file(parsed.what, parsed.json)


def _is_entry(what: str) -> bool:
    """Whether a word means an entry: by its name, or because it is neither a file nor looks like the path of one."""
    if what.startswith(FILE) or what in list_models():
        return True
    return not (os.path.exists(what) or os.path.dirname(what) or what.endswith((*known_suffixes(), ".json")))


def _verify_entry(parsed: argparse.Namespace) -> Outcome:
    find(parsed.what)  # an unknown name is said before what checks is imported
    from ..zoo.publishing.verification import verify

    checks = verify(parsed.what, metrics=parsed.metrics, data_folder=parsed.data_folder)
    passed = all(check.passed for check in checks)
    if parsed.json:
        found = {"name": parsed.what, "passed": passed, "checks": [check._asdict() for check in checks]}
        return Outcome(json.dumps(found, indent=1), 0 if passed else 1)
    rows = [(check.name, "ok" if check.passed else "FAILED", check.found) for check in checks]
    return Outcome(table(rows), 0 if passed else 1)


def _repro(parsed: argparse.Namespace) -> Outcome:
    find(parsed.name)
    from ..zoo.publishing.reproduction import repro

    found = repro(parsed.name, parsed.data_folder)
    text = json.dumps(found.as_dict(), indent=1) if parsed.json else str(found)
    return Outcome(text, 0 if found.passed else 1)
