"""The Spanish grammar grid: 20 verbs x 3 persons x 5 tenses, each triple with its form and a usage weight.

`grammar.csv` (UTF-8) has one row per triple, in the order of VERBS, PERSONS and TENSES: verb, person, tense, form,
weight. Keys are plain ASCII (`tu`, `el/ella`, `preterito`), forms have their accents (`habló`).

The weights are synthetic: no corpus was counted. `usage_weight` computes them from two small tables, so that the
distribution of the tense depends on the verb and the person, and a model has something to learn.
"""

import csv
import hashlib
import itertools
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ....core.errors import nearest
from ...errors import DataError, InputError
from ...interface.applying import prepare

TENSES: tuple[str, ...] = ("presente", "preterito", "imperfecto", "futuro", "condicional")
PERSONS: tuple[str, ...] = ("yo", "tu", "el/ella")

# The lexical aspect of each verb in its most common use; the classes are Vendler's ("Verbs and Times", 1957).
# The object or the context can move a verb to another class: "escribir" means writing one letter here.
ASPECTS = {
    "hablar": "activity",
    "comprar": "accomplishment",
    "llegar": "achievement",
    "pensar": "activity",
    "estar": "state",
    "comer": "activity",
    "ser": "state",
    "tener": "state",
    "saber": "state",
    "querer": "state",
    "hacer": "accomplishment",
    "poner": "achievement",
    "vivir": "state",
    "escribir": "accomplishment",
    "dormir": "activity",
    "pedir": "achievement",
    "ir": "accomplishment",
    "decir": "achievement",
    "venir": "accomplishment",
    "salir": "achievement",
}
VERBS: tuple[str, ...] = tuple(ASPECTS)

# Unbounded situations are a background (imperfecto) or hold now (presente); bounded ones are events (preterito) or
# plans (futuro). Columns as TENSES.
ASPECT_FACTORS = {
    "state": (16, 2, 12, 2, 4),
    "activity": (14, 4, 10, 4, 3),
    "accomplishment": (5, 14, 3, 9, 4),
    "achievement": (4, 20, 2, 6, 3),
}
# Speakers state and intend (presente, futuro), hearers are asked politely (condicional), and third persons are narrated
# (preterito, imperfecto). Columns as TENSES.
PERSON_FACTORS = {
    "yo": (6, 4, 4, 6, 4),
    "tu": (4, 4, 4, 4, 7),
    "el/ella": (4, 7, 5, 3, 3),
}

# The declared preprocessing of a pair: see interface.
FIELDS = (
    {"name": "verb", "kind": "choice", "options": list(VERBS), "steps": [{"op": "one_hot"}]},
    {"name": "person", "kind": "choice", "options": list(PERSONS), "steps": [{"op": "one_hot"}]},
)

_CSV_PATH = Path(__file__).parent / "grammar.csv"
_COLUMNS = ["verb", "person", "tense", "form", "weight"]
_PERSON_WORDS = {"yo": "yo", "tu": "tu", "el/ella": "el/ella", "el": "el/ella", "ella": "el/ella"}


def usage_weight(verb: str, person: str, tense: str) -> int:
    """Return the synthetic usage weight of a triple: the factor of the verb's aspect times the factor of the person.

    So the log-weight is the sum of a verb effect and a person effect.
    """
    column = TENSES.index(tense)
    return ASPECT_FACTORS[ASPECTS[verb]][column] * PERSON_FACTORS[person][column]


class Grammar(NamedTuple):
    """The grid as read-only arrays. A pair is one (verb, person); pairs run through PERSONS within VERBS."""

    forms: Mapping[tuple[str, str, str], str]  # (verb, person, tense) -> conjugated form, in the order of the CSV
    inputs: np.ndarray  # (60, 23) float32: one-hot verb, then one-hot person
    weights: np.ndarray  # (60, 5) int64: usage weight of each tense
    sha256: str  # of grammar.csv

    @property
    def probabilities(self) -> np.ndarray:
        """The target distribution over the tenses of each pair: (60, 5) float64, rows sum to 1."""
        return self.weights / self.weights.sum(axis=1, keepdims=True)

    def entropy_floor_nats(self) -> float:
        """Return the smallest weighted cross entropy that any model can reach, in nats: H(tense | verb, person).

        H(T|P) = -sum over p, t of p(p, t) log p(t|p), where p(p, t) is the triple's share of the total weight.
        Source: Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, eq. 2.12.
        """
        joint = self.weights / self.weights.sum()
        return float(-(joint * np.log(self.probabilities)).sum())


@cache
def load_grammar() -> Grammar:
    """Read the grammar grid from grammar.csv.

    Raises DataError if the file is not the complete grid in its order.
    """
    # Universal newlines: a table with CRLF line endings is still the same table.
    text = _CSV_PATH.read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines() or [""])
    triples = list(itertools.product(VERBS, PERSONS, TENSES))
    if header != _COLUMNS or [(*row[:3], len(row)) for row in rows] != [(*triple, len(_COLUMNS)) for triple in triples]:
        raise DataError(f"{_CSV_PATH} is not the published grammar grid. Reinstall statezoo.")
    inputs = np.stack([encode(verb, person) for verb, person in itertools.product(VERBS, PERSONS)])
    weights = np.array([int(row[4]) for row in rows], dtype=np.int64).reshape(-1, len(TENSES))
    for array in (inputs, weights):
        array.flags.writeable = False  # all callers share them
    forms = MappingProxyType({triple: row[3] for triple, row in zip(triples, rows, strict=True)})
    return Grammar(forms, inputs, weights, sha256=hashlib.sha256(text.encode()).hexdigest())


def encode(verb: str, person: str) -> np.ndarray:
    """Return the model's input for two words: (23,) float32, one-hot verb, then one-hot person.

    Accents, upper case and surrounding spaces do not matter; `él` and `ella` alone mean `el/ella`.
    Raises InputError, with the nearest known word and all choices, if a word is unknown.
    """
    return prepare(FIELDS, {"verb": _find_verb(verb), "person": _find_person(person)}, np.float32)


def form(verb: str, person: str, tense: str) -> str:
    """Return the conjugated form with its accents: form("tener", "yo", "condicional") is "tendría".

    Words are read as in `encode`. Raises InputError if one is unknown.
    """
    return load_grammar().forms[_find_verb(verb), _find_person(person), _find_tense(tense)]


def _find_verb(word: str) -> str:
    return _find(word, {verb: verb for verb in VERBS}, f"verb; the verbs are {', '.join(VERBS)}")


def _find_person(word: str) -> str:
    return _find(word, _PERSON_WORDS, f"person; the persons are {', '.join(PERSONS)}")


def _find_tense(word: str) -> str:
    return _find(word, {tense: tense for tense in TENSES}, f"tense; the tenses are {', '.join(TENSES)}")


def _find(word: str, keys: dict[str, str], kind_and_choices: str) -> str:
    """Return the key that a typed word stands for, ignoring accents and case."""
    if not isinstance(word, str):
        raise InputError(f"{word!r} is not a known {kind_and_choices}.")
    letters = unicodedata.normalize("NFD", word.strip().casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    if plain in keys:
        return keys[plain]
    near = nearest(plain, keys)
    hint = "" if near is None else f" Did you mean {keys[near]!r}?"
    raise InputError(f"{word!r} is not a known {kind_and_choices}.{hint}")
