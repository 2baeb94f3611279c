"""The recipe of transformer-block.sort: next-token cross entropy on six digits followed by the sorted digits."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ....core import Module, Tensor
from ....core import functional as F
from ...data import SORTING_LENGTH as LENGTH
from ...data import Split, sorting
from ...training.recipe import Recipe, Target, register_recipe
from . import adding as adding  # registers transformer-block.modadd
from .attention import draw_attention
from .model import SEPARATOR, SortingTransformer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IGNORED = -100  # the target where the next token belongs to the input, not to the answer


@dataclass(frozen=True)
class SortRecipe(Recipe):
    """The loss counts the six tokens of the answer, not those of the input."""

    summary = "One transformer block that sorts six digits, writing one after the other."
    task = "text-generation"
    example = ("352914",)
    labels = (*"0123456789", "|")

    def details(self) -> str:
        return (
            "The head is the token embedding: one tensor under two names, stored once in both files. `exact_match` is "
            "the share of held-out sequences whose six digits are all correct, with greedy decoding. No held-out "
            "sequence is in the training data, but other arrangements of the same digits are."
        )

    def data(self) -> Split:
        return _as_tokens(sorting(n_train=40_000, n_test=2_000, seed=self.seed))

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        logits = model(Tensor(x))  # (B, T, 11)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1), ignore_index=IGNORED)

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        assert isinstance(model, SortingTransformer)
        written = model.sort(data.test_x[:, :LENGTH])
        return {
            "exact_match": float((written == data.test_y[:, LENGTH:]).all(axis=1).mean()),
            "cross_entropy": self.loss(model, data.test_x, data.test_y).item(),
        }

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        assert isinstance(model, SortingTransformer)
        example = np.array([int(digit) for digit in self.example[0]])
        caption = (
            "The attention of the model while it writes: one example, and held-out sequences without repeated digits"
        )
        return {caption: draw_attention(model, data.test_x[:, :LENGTH], example)}


def _as_tokens(split: Split) -> Split:
    """Convert digits and sorted digits, both (N, 6), to tokens (N, 12) and the tokens that follow them (N, 12)."""

    def tokens(digits: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        separator = np.full((len(digits), 1), SEPARATOR)
        read = np.concatenate([digits, separator, ordered[:, :-1]], axis=1)
        follows = np.concatenate([np.full(digits.shape, IGNORED), ordered], axis=1)
        return read, follows

    train_x, train_y = tokens(split.train_x, split.train_y)
    test_x, test_y = tokens(split.test_x, split.test_y)
    return replace(split, train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)


register_recipe(
    SortRecipe(
        name="transformer-block.sort",
        architecture="transformer-block",
        config={"embed_dim": 64, "num_heads": 4, "length": LENGTH},
        epochs=6,
        batch_size=128,
        lr=2e-3,
        target=Target("exact_match", at_least=0.99),
    )
)
