"""The command `statezoo`: list, info and predict, and what the modules named *_command.py add.

Errors that are known print one message, without a traceback, and exit with status 1; a wrong usage exits with 2.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from inspect import signature

from ..checkpoints import CheckpointError, load_file
from ..core import ModuleError
from ..zoo.entry import CARD, GOLDEN, Entry, open_entry
from ..zoo.errors import EntryError, InputError, ZooError
from ..zoo.loading import find, list_models, load, load_entry
from ..zoo.publishing.text import command_line, render, table
from .doctor_command import EXAMPLE as DOCTOR_EXAMPLE
from .doctor_command import add_doctor
from .file_command import EXAMPLES as FILE_EXAMPLES
from .file_command import Outcome, add_verbs
from .proof_command import EXAMPLES as PROOF_EXAMPLES
from .proof_command import add_verbs as add_proofs

EXAMPLES = """examples:
  statezoo list 'simple-mlp.*'
  statezoo info tense-mlp
  statezoo predict tense-mlp hablar yo
  statezoo predict linear-regression 3 4
  statezoo predict transformer-block.sort 352914
  statezoo predict file:my-zoo/tense-mlp tener ella
  """ + "\n  ".join([DOCTOR_EXAMPLE, *PROOF_EXAMPLES.values(), *FILE_EXAMPLES.values()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    # A terminal that cannot show an accent gets an escape for it, not a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    parsed = _parser().parse_args(arguments)
    try:
        text, status = parsed.run(parsed)
        return _show(text) or status
    except KeyboardInterrupt:
        print("statezoo: interrupted", file=sys.stderr)
        return 130
    except (CheckpointError, ModuleError, ZooError) as error:
        print(f"statezoo: {error}", file=sys.stderr)
        return 1


def _show(text: str) -> int:
    """Print the text; the exit status."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is still buffered would fail once more, with a traceback, when the interpreter leaves.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader has seen enough, as in `statezoo list | head -1`
            return 0
        print(f"statezoo: the output could not be written: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="statezoo",
        description="Small pretrained models, and tools on checkpoint files.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("statezoo"))
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = verbs.add_parser("list", help="the models of the zoo, with size and metrics")
    verb.add_argument("filter", nargs="?", help="a pattern such as 'simple-mlp.*'")
    verb.set_defaults(run=_list)

    verb = verbs.add_parser("info", help="what a model is, what it reaches and how it was made")
    verb.add_argument("name", help="a model's name, or file:FOLDER for an entry of your own")
    verb.set_defaults(run=_info)

    verb = verbs.add_parser("predict", help="what a model makes of an input")
    verb.add_argument("name", help="a model's name, or file:FOLDER for an entry of your own")
    verb.add_argument("input", nargs="+", help="what the model takes; `statezoo info NAME` shows an example")
    verb.set_defaults(run=_predict)

    add_doctor(verbs)
    add_proofs(verbs)
    add_verbs(verbs)
    return parser


def _list(parsed: argparse.Namespace) -> Outcome:
    manifests = [open_entry(find(name)).manifest for name in list_models(parsed.filter)]
    if not manifests:
        return Outcome(f"no model matches {parsed.filter!r}" if parsed.filter else "the zoo is empty")
    rows = [("name", "parameters", "bytes", "metric")]
    for manifest in manifests:
        metric, value = next(iter(manifest["metrics"].items()))
        size = manifest["files"]["model.safetensors"]["bytes"]
        rows.append((manifest["name"], f"{manifest['parameters']:,}", f"{size:,}", f"{metric} {value:.4g}"))
    return Outcome(table(rows))


def _info(parsed: argparse.Namespace) -> Outcome:
    entry = open_entry(find(parsed.name))
    manifest = entry.manifest
    rows = [
        ("summary", manifest["summary"]),
        ("architecture", f"{manifest['architecture']} {json.dumps(manifest['config'])}"),
        ("parameters", f"{manifest['parameters']:,}"),
        *((name, f"{value:.6g}") for name, value in manifest["metrics"].items()),
        ("example", command_line(parsed.name, manifest["example"])),
        ("recipe", manifest["recipe"]["command"]),
        ("data", manifest["data"]["source"]),
        ("labels", ", ".join(map(str, manifest["labels"]))),
        ("licence", manifest["licence"]),
        ("fingerprint", manifest["fingerprint"]),
        ("card", str(entry.path(CARD))),
    ]
    rows = [row for row in rows if row[1]]
    return Outcome(f"{manifest['name']}\n{table(rows)}\n\n{_structure(entry)}")


def _structure(entry: Entry) -> str:
    """The modules of an entry's model with what they make of one example: the first golden input."""
    model, golden = load_entry(entry), entry.path(GOLDEN)
    try:
        return str(model.summary(load_file(golden)["input"][:1]))
    except Exception as error:  # whatever a model makes of an input that is none
        raise EntryError(
            f"{golden} holds no input that the model takes ({error}); publish or download the entry again"
        ) from error


def _predict(parsed: argparse.Namespace) -> Outcome:
    predict = load(parsed.name).predict
    try:
        signature(predict).bind(*parsed.input)
    except TypeError:
        example = command_line(parsed.name, open_entry(find(parsed.name)).manifest["example"])
        raise InputError(f"{parsed.name} takes other inputs than {parsed.input}; try: {example}") from None
    return Outcome(render(predict(*parsed.input)))


if __name__ == "__main__":
    sys.exit(main())
