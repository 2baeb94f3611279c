"""The command publish. `python scripts/publish.py` is `statezoo publish`."""

import argparse
import sys
from pathlib import Path

from statezoo.scripts.verbs import Outcome, Verb


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="a folder that `statezoo train` made")
    parser.add_argument("--zoo", type=Path, required=True, metavar="FOLDER", help="write the entry into this folder")
    parser.add_argument("--force", action="store_true", help="replace an entry of the same name")


def _publish(parsed: argparse.Namespace) -> Outcome:
    from statezoo import zoo

    entry = zoo.publish(parsed.run, parsed.zoo, force=parsed.force)
    return Outcome(f'published; load it with: zoo.load("file:{entry}")')


VERBS = {
    "publish": Verb(
        _add_arguments,
        _publish,
        ("statezoo publish runs/tense-mlp --zoo my-zoo", "statezoo publish runs/tense-mlp --zoo my-zoo --force"),
        pinned=True,
    )
}

if __name__ == "__main__":
    from statezoo.scripts.command import run_program

    sys.exit(run_program(["publish", *sys.argv[1:]]))
