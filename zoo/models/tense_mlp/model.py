"""TenseMLP: the tense of a Spanish verb, given the verb and the person."""

from typing import NamedTuple

import numpy as np

from ....core import Linear, Module, Tensor, no_grad
from ....core import functional as F
from ...interface.applying import Interface
from ...registry import register
from .grammar import FIELDS, TENSES, encode, form


class TensePrediction(NamedTuple):
    """One tense, its probability, and the verb's form in it."""

    tense: str
    probability: float
    form: str


@register("tense-mlp")
class TenseMLP(Module):
    """A perceptron from a one-hot verb and a one-hot person (23 in all) to logits over the five tenses."""

    def __init__(self, in_features: int = 23, hidden_features: int = 16, out_features: int = 5):
        super().__init__()
        self.fc1 = Linear(in_features, hidden_features)
        self.fc2 = Linear(hidden_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.relu(self.fc1(x)))  # (N, 23) -> (N, 5)

    @property
    def interface(self) -> Interface:
        """What turns a verb and a person into the input, and the output into an answer."""
        return Interface(("batch", "word"), ("batch", "tense"), FIELDS, ({"op": "softmax", "axis": "tense"},))

    def predict(self, verb: str, person: str) -> list[TensePrediction]:
        """Return every tense with its probability and the verb's form, the likeliest first: predict("hablar", "yo").

        Raises InputError for a verb or a person that is not in the grammar grid.
        """
        with no_grad():
            logits = self(Tensor(encode(verb, person)[None]))
        probabilities = F.softmax(logits, dim=-1).data[0]
        best_first = np.argsort(-probabilities, kind="stable")
        return [
            TensePrediction(TENSES[tense], float(probabilities[tense]), form(verb, person, TENSES[tense]))
            for tense in best_first
        ]
