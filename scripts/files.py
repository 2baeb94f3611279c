"""Commands on checkpoint files: inspect, diff, convert, edit, merge, repair and fingerprint; verify of a file."""

import argparse
import os

from statezoo import checkpoints
from statezoo.checkpoints import CheckpointError
from statezoo.scripts.verbs import Outcome, Verb, add_json, json_text, outcome, progress

FILE = "a checkpoint (.safetensors, .h5, .npz, .pt, .keras, .gguf, ...), or the index or the folder of a sharded one"


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help=FILE)
    add_json(parser)


def _add_two_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", help=FILE)
    parser.add_argument("after", help="the checkpoint to compare it with")
    add_json(parser)


def _add_conversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help=FILE)
    parser.add_argument("target", help="a path ending in .safetensors, .h5 or .npz: the suffix picks the format")
    parser.add_argument("--max-shard-size", metavar="SIZE", type=_size, help="the largest size of a shard, such as 5GB")
    parser.add_argument("--layout", help="keras: a .weights.h5 file that load_weights of a Keras model opens too")
    parser.add_argument(
        "--expand", action="store_true", help="store shared tensors under each of their names, for other readers"
    )
    parser.add_argument("--dequantize", action="store_true", help="write quantised tensors of a GGUF file as float32")
    parser.add_argument("--map", metavar="RULES", help="change names and layouts by a .toml file of rules, or a preset")
    parser.add_argument("--reverse", action="store_true", help="apply the rules of --map in the opposite direction")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing, and print what --map does, compared with an existing target",
    )
    add_json(parser)


def _add_edit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help=FILE)
    parser.add_argument("--set", metavar="KEY=VALUE", type=_pair, action="append", default=[], help="set metadata")
    parser.add_argument("--unset", metavar="KEY", action="append", default=[], help="remove metadata")
    parser.add_argument(
        "--rename",
        metavar="NAME=NEW",
        type=_pair,
        action="append",
        default=[],
        help="rename a tensor; it keeps its place",
    )
    parser.add_argument("--drop", metavar="NAME", action="append", default=[], help="leave out a tensor")
    parser.add_argument("--to", metavar="OUT", help="the file to write; by default FILE is replaced")
    add_json(parser)


def _add_merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="file", help=FILE)
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument(
        "--method",
        choices=("average", "sum", "difference", "lora"),
        default="average",
        help="difference: the first file plus what each other one changes in it; lora: the others are LoRA adapters",
    )
    parser.add_argument(
        "--weights",
        metavar="W,W,...",
        type=_numbers,
        help="a number for each file, or for each but the base (--weights=-1,2 if the first is negative)",
    )
    add_json(parser)


def _pair(text: str) -> tuple[str, str]:
    before, equals, after = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} has no '='")
    return before, after


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.5,0.5") from error


def _add_repair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help=FILE)
    parser.add_argument("out", nargs="?", help="the file to write; by default model.repaired.h5 for model.h5")
    add_json(parser)


def _size(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _inspect(parsed: argparse.Namespace) -> Outcome:
    return outcome(checkpoints.inspect(parsed.file), parsed.json)


def verify_file(file: str, as_json: bool) -> Outcome:
    """Check every byte of a file against its digests: the part of `verify` that handles files."""
    with progress("verify", _stored_bytes(file)) as update:
        found = checkpoints.verify(file, progress=update)
    return outcome(found, as_json, 0 if found.intact else 1)


def _diff(parsed: argparse.Namespace) -> Outcome:
    with progress("diff", _stored_bytes(parsed.before)) as update:
        found = checkpoints.diff(parsed.before, parsed.after, progress=update)
    return outcome(found, parsed.json, 0 if found.same else 1)


def _convert(parsed: argparse.Namespace) -> Outcome:
    mapping = None if parsed.map is None else checkpoints.mapping.rules_of(parsed.map)
    if parsed.reverse:
        if mapping is None:
            raise checkpoints.ArgumentError("--reverse needs the rules to reverse: add --map RULES.")
        mapping = checkpoints.mapping.reverse(mapping)
    if parsed.dry_run:
        target = parsed.target if os.path.exists(parsed.target) else None
        found = checkpoints.explain(parsed.source, mapping or [], target, dequantize=parsed.dequantize)
        return outcome(found, parsed.json, 0 if found.fits else 1)
    stored_bytes = _stored_bytes(parsed.source)
    with progress("convert", stored_bytes) as update:
        checkpoints.convert(
            parsed.source,
            parsed.target,
            max_shard_size=parsed.max_shard_size,
            layout=parsed.layout,
            expand=parsed.expand,
            dequantize=parsed.dequantize,
            mapping=mapping,
            progress=update,
        )
    if parsed.dequantize:  # the source does not say how many bytes these are
        stored_bytes = _stored_bytes(parsed.target)
    if parsed.json:
        return Outcome(json_text({"source": parsed.source, "target": parsed.target, "stored_bytes": stored_bytes}))
    return Outcome(f"{parsed.source} -> {parsed.target}: {stored_bytes:,} bytes of tensors")


def _edit(parsed: argparse.Namespace) -> Outcome:
    metadata: dict[str, str | None] = {**dict.fromkeys(parsed.unset), **dict(parsed.set)}
    checkpoints.edit(parsed.file, metadata=metadata, rename=dict(parsed.rename), drop=parsed.drop, to=parsed.to)
    out = parsed.to or parsed.file
    changes = {"set": dict(parsed.set), "unset": parsed.unset, "renamed": dict(parsed.rename), "dropped": parsed.drop}
    if parsed.json:
        return Outcome(json_text({"path": parsed.file, "out": out, **changes}))
    counts = ", ".join(f"{len(names):,} {what}" for what, names in changes.items() if names) or "no changes"
    return Outcome(f"{parsed.file}{f' -> {out}' if parsed.to else ''}: {counts}")


def _merge(parsed: argparse.Namespace) -> Outcome:
    stored_bytes = _stored_bytes(parsed.files[0])
    with progress("merge", stored_bytes) as update:
        checkpoints.merge(parsed.files, parsed.out, weights=parsed.weights, method=parsed.method, progress=update)
    if parsed.json:
        return Outcome(json_text({"paths": parsed.files, "out": parsed.out, "stored_bytes": stored_bytes}))
    return Outcome(f"{' + '.join(parsed.files)} -> {parsed.out}: {stored_bytes:,} bytes of tensors")


def _repair(parsed: argparse.Namespace) -> Outcome:
    stem, suffix = os.path.splitext(parsed.file)
    size_bytes = os.path.getsize(parsed.file) if os.path.isfile(parsed.file) else 0
    with progress("repair", 2 * size_bytes) as update:  # every byte is read twice: to check it, and to copy it
        found = checkpoints.repair(parsed.file, parsed.out or f"{stem}.repaired{suffix}", progress=update)
    return outcome(found, parsed.json, 0 if found.complete else 1)


def _fingerprint(parsed: argparse.Namespace) -> Outcome:
    with progress("fingerprint", _stored_bytes(parsed.file)) as update:
        found = checkpoints.fingerprint(parsed.file, progress=update)
    return Outcome(json_text({"path": parsed.file, "fingerprint": found}) if parsed.json else found)


def _stored_bytes(file: str) -> int:
    """Return how many bytes there are to read, or 0 for a file that the verb itself will refuse."""
    try:
        return checkpoints.inspect(file).stored_bytes
    except (CheckpointError, OSError):
        return 0


VERBS = {
    "inspect": Verb(_add_file, _inspect, ("statezoo inspect model.safetensors --json",)),
    "diff": Verb(_add_two_files, _diff, ("statezoo diff before.safetensors after.h5",)),
    "convert": Verb(
        _add_conversion,
        _convert,
        (
            "statezoo convert model.h5 model.safetensors --max-shard-size 5GB",
            "statezoo convert theirs.weights.h5 ours.safetensors --map keras --dry-run",
        ),
    ),
    "edit": Verb(
        _add_edit,
        _edit,
        (
            "statezoo edit model.safetensors --set epoch=8 --unset note",
            "statezoo edit model.h5 --rename fc.weight=head.weight --drop fc.bias --to new.h5",
        ),
    ),
    "merge": Verb(
        _add_merge,
        _merge,
        (
            "statezoo merge a.safetensors b.safetensors --out mean.safetensors",
            "statezoo merge base.h5 tuned.h5 --out half.h5 --method difference --weights 0.5",
        ),
    ),
    "repair": Verb(_add_repair, _repair, ("statezoo repair model.safetensors intact.safetensors",)),
    "fingerprint": Verb(_add_file, _fingerprint, ("statezoo fingerprint model.h5",)),
}
