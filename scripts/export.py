"""The command export."""

import argparse
from pathlib import Path

from statezoo.scripts.verbs import NAME, Outcome, Verb


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=NAME)
    parser.add_argument("out", type=Path, help="the file or the folder to write")
    parser.add_argument(
        "--to", choices=("onnx", "huggingface"), default="onnx", help="an ONNX file, or a folder for the hub"
    )


def _export(parsed: argparse.Namespace) -> Outcome:
    from statezoo import zoo

    return Outcome(f"{parsed.name} -> {zoo.export(parsed.name, parsed.out, to=parsed.to)}")


VERBS = {
    "export": Verb(
        _add_arguments,
        _export,
        ("statezoo export tense-mlp tense-mlp.onnx", "statezoo export tense-mlp folder --to huggingface"),
    )
}
