"""The recipe of lstm.conjugator: cross entropy at each place of the form."""

from dataclasses import dataclass

import numpy as np

from ....core import Module, Tensor, no_grad
from ....core import functional as F
from ...data.conjugation import FORM_LENGTH, VERB_LENGTH
from ...training.recipe import Target, register_recipe
from ..shared.conjugating import ConjugationRecipe


@dataclass(frozen=True)
class LstmConjugationRecipe(ConjugationRecipe):
    """The model writes all letters of a form at once, so each place is one example for the loss."""

    summary = "The forms of Spanish verbs, letter by letter, by an LSTM in both directions."

    def read(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.pad(x, ((0, 0), (0, FORM_LENGTH - VERB_LENGTH))), y

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        logits = model(Tensor(x))  # (B, 16, letters)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))

    def written(self, model: Module, x: np.ndarray) -> np.ndarray:
        with no_grad():
            return model(Tensor(x)).data.argmax(axis=-1)


register_recipe(
    LstmConjugationRecipe(
        name="lstm.conjugator",
        architecture="lstm",
        config={"embed_dim": 24, "hidden_size": 40, "num_layers": 2},
        epochs=25,
        batch_size=64,
        lr=4e-3,
        target=Target("held_out_exact", at_least=0.95),
    )
)
