"""Commands about the models of the zoo: list, info, predict, card and doctor."""

import argparse
import json
from inspect import signature
from typing import Any

from statezoo.checkpoints import load_file
from statezoo.checkpoints.errors import on_one_line
from statezoo.core import Module
from statezoo.scripts.verbs import NAME, Outcome, Verb, add_json, outcome
from statezoo.zoo.entry import CARD, GOLDEN, Entry
from statezoo.zoo.errors import EntryError, InputError, UnknownNameError
from statezoo.zoo.loading import card, find, list_models, load, load_entry
from statezoo.zoo.publishing.text import render, table
from statezoo.zoo.versions import whole


def _add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filter", nargs="?", help="a pattern such as 'simple-mlp.*'")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=NAME)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    parser.add_argument("input", nargs="+", help="the inputs of the model; `statezoo info NAME` shows an example")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    _add_name(parser)
    add_json(parser)


def _list(parsed: argparse.Namespace) -> Outcome:
    manifests = [whole(find(name), lambda entry: entry.manifest) for name in list_models(parsed.filter)]
    if not manifests:
        return Outcome(f"no model matches {parsed.filter!r}" if parsed.filter else "the zoo is empty")
    rows = [("name", "parameters", "bytes", "metric")]
    for manifest in manifests:
        metric, value = next(iter(manifest["metrics"].items()))
        size = manifest["files"]["model.safetensors"]["bytes"]
        rows.append((manifest["name"], f"{manifest['parameters']:,}", f"{size:,}", f"{metric} {value:.4g}"))
    return Outcome(table(rows))


def _info(parsed: argparse.Namespace) -> Outcome:
    return Outcome(whole(find(parsed.name), lambda entry: _description(parsed.name, entry)))


def _description(name: str, entry: Entry) -> str:
    from statezoo.zoo.publishing.huggingface.card import command_line  # with training, which other verbs do not need

    manifest = entry.manifest
    rows = [
        ("summary", manifest["summary"]),
        ("architecture", f"{manifest['architecture']} {json.dumps(manifest['config'])}"),
        ("parameters", f"{manifest['parameters']:,}"),
        *((name, f"{value:.6g}") for name, value in manifest["metrics"].items()),
        ("example", command_line(name, manifest["example"])),
        ("recipe", manifest["recipe"]["command"]),
        ("data", manifest["data"]["source"]),
        ("labels", ", ".join(map(str, manifest["labels"]))),
        ("licence", manifest["licence"]),
        ("fingerprint", manifest["fingerprint"]),
        ("card", str(entry.path(CARD))),
    ]
    rows = [row for row in rows if row[1]]
    return f"{on_one_line(manifest['name'])}\n{table(rows)}\n\n{_structure(entry)}"


def _structure(entry: Entry) -> str:
    """Return the summary of an entry's model, with the shapes for its first golden input."""
    model, golden = load_entry(entry), entry.path(GOLDEN)
    try:
        return str(model.summary(load_file(golden)["input"][:1]))
    except Exception as error:  # a model may raise anything for an input that it does not expect
        raise _bad_golden(golden, error) from error


def _bad_golden(golden: Any, error: Exception) -> EntryError:
    return EntryError(
        f"{golden} holds no input that the model accepts ({error}). Publish the entry again, or download it again."
    )


def _predict(parsed: argparse.Namespace) -> Outcome:
    predict = load(parsed.name).predict
    try:
        signature(predict).bind(*parsed.input)
    except TypeError:
        from statezoo.zoo.publishing.huggingface.card import command_line

        example = command_line(parsed.name, whole(find(parsed.name), lambda entry: entry.manifest["example"]))
        count = len(parsed.input)
        given = f"{count} {'input' if count == 1 else 'inputs'}"
        raise InputError(f"{parsed.name} does not take {given}. Try: {example}") from None
    return Outcome(render(predict(*parsed.input)))


def _card(parsed: argparse.Namespace) -> Outcome:
    return Outcome(card(parsed.name).rstrip("\n"))


def _doctor(parsed: argparse.Namespace) -> Outcome:
    report = whole(find(parsed.name), _examined)
    return outcome(report, parsed.json, 0 if report.ok else 1)


def _examined(entry: Entry) -> Any:
    golden = entry.path(GOLDEN)
    model, examples = load_entry(entry), load_file(golden)
    try:
        return _examine(entry, model, examples)
    except Exception as error:  # a model may raise anything for an input that it does not expect
        raise _bad_golden(golden, error) from error


def _examine(entry: Entry, model: Module, golden: dict[str, Any]) -> Any:
    """Run the doctor on the next training step of the entry's recipe, or on a forward pass if there is no recipe."""
    from statezoo.core import doctor
    from statezoo.zoo.training.recipe import get_recipe  # no other verb in this file needs the recipes

    try:
        recipe = get_recipe(entry.name)
    except UnknownNameError:
        return doctor(model, batch=golden["input"])
    x, y = golden["input"], golden["target"]
    model.train()
    return doctor(model, recipe.optimizer(model), loss=lambda: recipe.loss(model, x, y))


VERBS = {
    "list": Verb(_add_filter, _list, ("statezoo list", "statezoo list 'simple-mlp.*'")),
    "info": Verb(_add_name, _info, ("statezoo info tense-mlp",)),
    "predict": Verb(
        _add_inputs,
        _predict,
        (
            "statezoo predict tense-mlp hablar yo",
            "statezoo predict linear-regression 3 4",
            "statezoo predict transformer-block.sort 352914",
            "statezoo predict file:my-zoo/tense-mlp tener ella",
        ),
    ),
    "card": Verb(_add_name, _card, ("statezoo card tense-mlp",)),
    "doctor": Verb(_add_doctor, _doctor, ("statezoo doctor simple-mlp.digits-bn",)),
}
