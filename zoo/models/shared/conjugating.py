"""What the models that conjugate Spanish verbs have in common: their question, and their recipe."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ....core import Module
from ....core.errors import nearest
from ...data import Split
from ...data.conjugation import (
    IRREGULAR,
    LETTERS,
    PERSONS,
    REGULAR,
    TENSES,
    VERB_LENGTH,
    arrays_of,
    conjugation,
    held_out_verbs,
    word,
)
from ...errors import InputError
from ...interface.applying import Fields, prepare
from ...publishing.pictures import draw_table, new_figure
from ...training.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# How often an irregular verb occurs in an epoch. They are few, and each must be learnt by heart.
REPEATS = 4
_PERSON_WORDS = {name: person for person in PERSONS for name in (person, *person.split("/"))}


def fields(tokens_of_choices: tuple[int, int], places: int) -> Fields:
    """Return the declared preprocessing: tense, person, the letters of the verb, and places for the form.

    tokens_of_choices: the numbers of the first tense and of the first person.
    """
    choices = (("tense", TENSES, tokens_of_choices[0]), ("person", PERSONS, tokens_of_choices[1]))
    blank = {"op": "append", "values": [0] * places}
    return (
        *(
            {
                "name": name,
                "kind": "choice",
                "options": list(options),
                "steps": [{"op": "flatten"}, {"op": "scale", "factor": 1, "offset": first}],
            }
            for name, options, first in choices
        ),
        {"name": "verb", "kind": "text", "options": list(LETTERS), "length": VERB_LENGTH, "steps": [blank]},
    )


def question(preprocessing: Fields, verb: str, tense: str, person: str) -> np.ndarray:
    """Return the model's input for three words. Raises InputError, with the nearest known word, if one is unknown.

    The verb can be any infinitive of at most VERB_LENGTH letters, also an invented one.
    """
    infinitive = verb.strip().casefold() if isinstance(verb, str) else ""
    if not infinitive.endswith(("ar", "er", "ir")) or not set(infinitive) <= set(LETTERS[1:]):
        raise InputError(f"{verb!r} is not a Spanish infinitive, which ends in -ar, -er or -ir, such as 'hablar'.")
    if len(infinitive) > VERB_LENGTH:
        raise InputError(f"{verb!r} has {len(infinitive)} letters. The model reads at most {VERB_LENGTH}.")
    raw = {
        "tense": _find(tense, {name: name for name in TENSES}, f"tense; the tenses are {', '.join(TENSES)}"),
        "person": _find(person, _PERSON_WORDS, f"person; the persons are {', '.join(PERSONS)}"),
        "verb": infinitive.ljust(VERB_LENGTH, LETTERS[0]),
    }
    return prepare(preprocessing, raw, np.int64)


def _find(word: str, keys: dict[str, str], kind_and_choices: str) -> str:
    plain = word.strip().casefold().translate(str.maketrans("áéíóú", "aeiou")) if isinstance(word, str) else ""
    if plain in keys:
        return keys[plain]
    near = nearest(plain, keys)
    hint = "" if near is None else f" Did you mean {near!r}?"
    raise InputError(f"{word!r} is not a known {kind_and_choices}.{hint}")


@dataclass(frozen=True)
class ConjugationRecipe(Recipe):
    """Cross entropy of the letters of the form. Subclasses say how the model reads a question and writes a form."""

    task = "text-generation"
    example = ("hablar", "presente", "yo")
    labels = tuple(LETTERS)
    # Four of the 1,920 held-out forms, and one of the 420 irregular ones.
    tolerances: ClassVar[Mapping[str, float]] = {"held_out_exact": 0.002, "irregular_exact": 0.0025}
    retrained_tolerances: ClassVar[Mapping[str, float]] = {
        "held_out_exact": 0.02,
        "irregular_exact": 0.01,
        "cross_entropy": 0.01,
    }

    @abstractmethod
    def read(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's input and target for x and y of `conjugation`."""

    @abstractmethod
    def written(self, model: Module, x: np.ndarray) -> np.ndarray:
        """Return the letters that the model writes for its inputs, (N, FORM_LENGTH)."""

    def details(self) -> str:
        return (
            f"It learns {len(REGULAR) - len(held_out_verbs())} regular verbs and {len(IRREGULAR)} irregular ones in "
            f"five tenses and six persons. `held_out_exact` is the share of correct forms of {len(held_out_verbs())} "
            "other regular verbs, none of whose forms it has seen: it has learnt the rules, spelling included "
            "(`buscar`, `busqué`). `irregular_exact` is the share for the irregular verbs, all of which it was trained "
            "on: it has learnt them by heart, and knows no others. A form counts if every letter is correct, accents "
            "included. The verbs and the rules are in `zoo/data/conjugation.py`. Epochs and sizes were chosen by "
            "looking at both numbers."
        )

    def data(self) -> Split:
        split, count = conjugation(), len(IRREGULAR) * len(TENSES) * len(PERSONS)
        x, y = (np.concatenate([a, *[a[-count:]] * (REPEATS - 1)]) for a in (split.train_x, split.train_y))
        (train_x, train_y), (test_x, test_y) = self.read(x, y), self.read(split.test_x, split.test_y)
        return replace(split, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        held_out, irregular = self._correct(model)
        return {
            "held_out_exact": float(held_out.mean()),
            "irregular_exact": float(irregular.mean()),
            "cross_entropy": self.loss(model, data.test_x, data.test_y).item(),
        }

    def pictures(self, model: Module, data: Split) -> "dict[str, Figure]":
        figure, axes = new_figure(9, 2.6, columns=2)
        titles = ("regular verbs that were held out", "irregular verbs")
        for axis, title, correct in zip(axes[0], titles, self._correct(model), strict=True):
            shares = correct.reshape(-1, len(TENSES), len(PERSONS)).mean(axis=0)
            draw_table(axis, shares.T, PERSONS, TENSES)
            axis.set_title(title, fontsize=11)
        return {"The share of correct forms in per cent, by person and tense": figure}

    def _correct(self, model: Module) -> list[np.ndarray]:
        """Return whether each form of the held-out verbs, and of the irregular ones, is correct."""
        found = []
        for verbs in (sorted(held_out_verbs()), list(IRREGULAR)):
            x, y = arrays_of(verbs)
            found.append((self.written(model, self.read(x, y)[0]) == y).all(axis=1))
        return found


def text(letters: np.ndarray) -> str:
    """Return the form in the tokens that a model wrote. It ends at the first one that is no letter."""
    return word(np.where(letters < len(LETTERS), letters, 0))
