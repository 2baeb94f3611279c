"""Commands that verify entries and files: verify, repro and verify-zoo.

`python scripts/verify_zoo.py` is `statezoo verify-zoo`.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from statezoo.scripts.verbs import NAME, Outcome, Verb, add_json, json_text, outcome

if TYPE_CHECKING:
    from statezoo import zoo


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="NAME|FILE",
        help=f"{NAME}; or a checkpoint, or the index or the folder of a sharded one. For a file "
        "with the name of a model, write ./NAME",
    )
    parser.add_argument("--metrics", action="store_true", help="also recompute the metrics on an entry's card")
    _add_data(parser)
    add_json(parser)


def _add_repro(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=NAME)
    _add_data(parser)
    add_json(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", dest="data_folder", metavar="FOLDER", help="the data folder, for a recipe that reads files"
    )


def _add_verify_zoo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{NAME}; by default every model of the zoo")
    parser.add_argument("--repro", action="store_true", help="also train each model again and compare the weights")


def _verify(parsed: argparse.Namespace) -> Outcome:
    from statezoo.scripts.files import verify_file
    from statezoo.zoo import InputError, list_models

    if _is_entry(parsed.what):
        return _verify_entry(parsed)
    if parsed.metrics:
        names = ", ".join(list_models())
        raise InputError(
            f"{parsed.what} is a file, and files have no metrics. Leave out --metrics, or name one of {names}."
        )
    return verify_file(parsed.what, parsed.json)


def _is_entry(what: str) -> bool:
    """Return True for the name of an entry, and for a word that is neither a file nor looks like a path."""
    from statezoo.checkpoints.formats import known_suffixes
    from statezoo.zoo.loading import FILE, list_models

    if what.startswith(FILE) or what in list_models():
        return True
    return not (os.path.exists(what) or os.path.dirname(what) or what.endswith((*known_suffixes(), ".json")))


def _verify_entry(parsed: argparse.Namespace) -> Outcome:
    from statezoo.zoo.loading import find
    from statezoo.zoo.publishing.text import table

    find(parsed.what)  # an unknown name is an error before the slow imports
    from statezoo.zoo.publishing.verification import verify

    checks = verify(parsed.what, metrics=parsed.metrics, data_folder=parsed.data_folder)
    passed = all(check.passed for check in checks)
    status = 0 if passed else 1
    if parsed.json:
        found = {"name": parsed.what, "passed": passed, "checks": [check._asdict() for check in checks]}
        return Outcome(json_text(found), status)
    return Outcome(table([(check.name, "ok" if check.passed else "FAILED", check.found) for check in checks]), status)


def _repro(parsed: argparse.Namespace) -> Outcome:
    from statezoo import zoo

    found = zoo.repro(parsed.name, parsed.data_folder)
    return outcome(found, parsed.json, 0 if found.passed else 1)


def _verify_zoo(parsed: argparse.Namespace) -> Outcome:
    from statezoo import zoo
    from statezoo.checkpoints import CheckpointError
    from statezoo.core import ModuleError
    from statezoo.zoo.publishing.text import table

    names = parsed.names or zoo.list_models()
    rows = [("entry", "check", "", "found")]
    for name in names:
        try:
            checks = zoo.verify(name)
            if parsed.repro:
                checks.append(_reproduce(name))
        except (CheckpointError, ModuleError, zoo.ZooError, OSError) as error:
            checks = [zoo.Check("entry", False, str(error).splitlines()[0])]
        rows += [(name, check.name, "ok" if check.passed else "FAILED", check.found) for check in checks]
    failed = sum(row[2] == "FAILED" for row in rows)
    entries, found = "entry" if len(names) == 1 else "entries", "check" if failed == 1 else "checks"
    total = f"{len(names)} {entries}, {failed} failed {found}"
    return Outcome(f"{table(rows)}\n{total}", 1 if failed else 0)


def _reproduce(name: str) -> "zoo.Check":
    from statezoo import zoo

    found = zoo.repro(name)
    differs = ", ".join(f"{key} {here} (published with {old})" for key, (old, here) in found.environment.items())
    return zoo.Check("repro", found.passed, f"{found.summary}; {differs or 'in the same environment'}")


VERBS = {
    "verify": Verb(_add_verify, _verify, ("statezoo verify tense-mlp --metrics", "statezoo verify model.safetensors")),
    "repro": Verb(_add_repro, _repro, ("statezoo repro tense-mlp",)),
    "verify-zoo": Verb(
        _add_verify_zoo,
        _verify_zoo,
        (
            "statezoo verify-zoo",
            "statezoo verify-zoo simple-mlp.digits file:my-zoo/tense-mlp",
            "statezoo verify-zoo --repro",
        ),
    ),
}

if __name__ == "__main__":
    from statezoo.scripts.command import run_program

    sys.exit(run_program(["verify-zoo", *sys.argv[1:]]))
