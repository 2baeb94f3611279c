"""The recipe of gpt.conjugator: next-token cross entropy on a question followed by the form."""

from dataclasses import dataclass

import numpy as np

from ....core import Module, Tensor, no_grad
from ....core import functional as F
from ...data.conjugation import LETTERS, PERSONS, TENSES
from ...training.recipe import Target, register_recipe
from ..shared.conjugating import ConjugationRecipe
from .model import FIRST_PERSON, FIRST_TENSE, START

IGNORED = -100  # the target where the next token belongs to the question


@dataclass(frozen=True)
class GptConjugationRecipe(ConjugationRecipe):
    """The loss counts the letters of the form, not those of the question."""

    summary = "The forms of Spanish verbs, letter by letter, by a decoder of two blocks with a tied head."
    labels = (*LETTERS, *TENSES, *PERSONS)

    def read(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked = np.concatenate([x[:, :1] + FIRST_TENSE, x[:, 1:2] + FIRST_PERSON, x[:, 2:], y[:, :-1]], axis=1)
        return asked, np.pad(y, ((0, 0), (START, 0)), constant_values=IGNORED)

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        logits = model(Tensor(x))  # (B, T, tokens)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), ignore_index=IGNORED)

    def written(self, model: Module, x: np.ndarray) -> np.ndarray:
        # With the correct letters as input. The form is correct exactly if the model also writes it on its own: up to
        # the first mistake, both inputs are the same.
        with no_grad():
            return model(Tensor(x)).data[:, START:].argmax(axis=-1)


register_recipe(
    GptConjugationRecipe(
        name="gpt.conjugator",
        architecture="gpt",
        config={"embed_dim": 48, "num_heads": 4, "layers": 2, "dropout": 0.1},
        epochs=40,
        batch_size=128,
        lr=3e-3,
        target=Target("held_out_exact", at_least=0.95),
    )
)
