"""The verb `statezoo doctor`: core.doctor on an entry's model, in the step that its recipe would take next."""

import argparse
import json
from typing import Any

from ..checkpoints import load_file
from ..core import Module, doctor
from ..zoo.entry import GOLDEN, Entry, open_entry
from ..zoo.errors import EntryError, UnknownNameError
from ..zoo.loading import find, load_entry
from .file_command import Outcome, add_verb

EXAMPLE = "statezoo doctor simple-mlp.digits-bn"


def add_doctor(verbs: Any) -> None:
    """Add the verb to the subparsers of a parser."""
    summary = "what is wrong with a model and its training step, and what mends it; status 1 if something is"
    verb = add_verb(verbs, "doctor", _doctor, summary, EXAMPLE)
    verb.add_argument("name", help="a model's name, or file:FOLDER for an entry of your own")


def _doctor(parsed: argparse.Namespace) -> Outcome:
    entry = open_entry(find(parsed.name))
    golden = entry.path(GOLDEN)
    model, examples = load_entry(entry), load_file(golden)
    try:
        report = _examine(entry, model, examples)
    except Exception as error:  # whatever a model makes of an input that is none
        raise EntryError(
            f"{golden} holds no examples that the model takes ({error}); publish or download the entry again"
        ) from error
    text = json.dumps(report.as_dict(), indent=1) if parsed.json else str(report)
    return Outcome(text, 0 if report.ok else 1)


def _examine(entry: Entry, model: Module, golden: dict[str, Any]) -> Any:
    """The report on a step on the golden examples; on a forward pass if this process does not know the recipe."""
    from ..zoo.training.recipe import get_recipe  # only this verb needs what trains

    try:
        recipe = get_recipe(entry.name)
    except UnknownNameError:
        return doctor(model, batch=golden["input"])
    x, y = golden["input"], golden["target"]
    model.train()
    return doctor(model, recipe.optimizer(model), loss=lambda: recipe.loss(model, x, y))
