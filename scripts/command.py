"""The command `statezoo`: a table of verbs, and the parser that finds the verb in a command line.

A known error is one message on stderr and exit status 1; wrong usage is status 2.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from statezoo.scripts.verbs import Outcome, Parser, Verb, finish

# Each verb, the file in this folder whose VERBS defines it, and one line of help.
VERBS = {
    "list": ("models", "list the pretrained models with their sizes and metrics"),
    "info": ("models", "show the structure, metrics and recipe of a model"),
    "predict": ("models", "run a model on an input"),
    "card": ("models", "print the card of a model, in Markdown"),
    "doctor": ("models", "find bugs in a model and its training step (exit status 1 if any)"),
    "inspect": ("files", "show the tensors, ties, digests and metadata of a checkpoint"),
    "diff": ("files", "compare two checkpoints, in any format (exit status 1 if they differ)"),
    "convert": ("files", "write a checkpoint in another format, or in shards"),
    "edit": ("files", "change metadata or names, or drop tensors, without rewriting the rest"),
    "merge": ("files", "average checkpoints, add weighted differences, or fold in LoRA adapters"),
    "repair": ("files", "recover the intact tensors of a damaged file (exit status 1 if any is lost)"),
    "fingerprint": ("files", "print the hash of a checkpoint's content, the same in every format"),
    "verify": ("verify_zoo", "check an entry, or every byte of a checkpoint (exit status 1 if a check fails)"),
    "repro": ("verify_zoo", "train a model again and compare the weights (exit status 1 if they differ)"),
    "verify-zoo": ("verify_zoo", "check every entry, in one table (exit status 1 if a check fails)"),
    "train": ("train", "train a model by its recipe"),
    "export": ("export", "write a model as an ONNX file, or as a folder for the Hugging Face hub"),
    "publish": ("publish", "publish a finished run as an entry, checked before it appears"),
}
HELP = """Small pretrained models, and tools for checkpoint files.

verbs:
{verbs}

examples:
  statezoo list
  statezoo predict tense-mlp hablar yo
  statezoo train tense-mlp
  statezoo inspect model.safetensors

`statezoo VERB --help` describes one verb. The exit status is 1 for an error and 2 for wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process, and return the exit status."""
    if arguments is None:
        return run_program(sys.argv[1:])
    parsed = parse(arguments)
    return finish(lambda: parsed.chosen.run(parsed), parsed.options)


def run_program(words: Sequence[str]) -> int:
    """Run the command line that started this process, pinned to one BLAS kernel if the verb needs that."""
    _occupy_standard_streams()
    if parse(words).chosen.pinned:
        from statezoo.zoo.training.run.determinism import run_pinned

        run_pinned()
    return main(words)


def _occupy_standard_streams() -> None:
    """Open the null device for each closed standard stream, so that no other file takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command line, with its verb as `chosen` and the verb's `options`.

    Imports the file of that verb only. Exits with status 2 on wrong usage.
    """
    chosen = words[0] if words else None
    rows = "\n".join(f"  {name:<12} {summary}" for name, (_, summary) in VERBS.items())
    parser = Parser(prog="statezoo", usage="statezoo [-h] [--version] VERB ...", description=HELP.format(verbs=rows))
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.set_defaults(chosen=_VERSION, options={})
    subparsers = parser.add_subparsers(prog="statezoo", metavar="VERB", help=argparse.SUPPRESS)
    subparsers.required = chosen != "--version"
    for name, (file, summary) in VERBS.items():
        verb_parser = subparsers.add_parser(name, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:
            verb: Verb = import_module(f"statezoo.scripts.{file}").VERBS[name]
            verb_parser.epilog = "\n  ".join(("example:" if len(verb.examples) == 1 else "examples:", *verb.examples))
            verb.arguments(verb_parser)
            verb_parser.set_defaults(chosen=verb, options=verb_parser.options)
    return parser.parse_args(words)


def _version(_: argparse.Namespace) -> Outcome:
    import statezoo

    return Outcome(statezoo.__version__)


_VERSION = Verb(arguments=lambda _: None, run=_version, examples=())


if __name__ == "__main__":
    sys.exit(main())
