"""The recipe of transformer-block.modadd: the grokking experiment, addition modulo 97."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ....core import Module, Tensor, optim
from ....core import functional as F
from ...data import Split, modular_addition
from ...publishing.pictures import new_figure
from ...training.recipe import Recipe, Target, register_recipe
from .model import AddingTransformer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODULUS, SHARE, PASSES = 97, 0.4, 5


@dataclass(frozen=True)
class AddRecipe(Recipe):
    """The cross entropy of the sum, on batches of half as many examples as there are pairs to train on."""

    summary = "One transformer block that adds two numbers modulo 97, and shows when it understands."
    task = "text-generation"
    example = ("45", "60")
    labels = (*map(str, range(MODULUS)), "=")
    # The epoch in which it starts to generalize depends on the rounding; the end does not.
    retrained_tolerances: ClassVar[Mapping[str, float]] = {
        "accuracy": 0.01,
        "train_accuracy": 0.01,
        "cross_entropy": 0.1,
    }

    def details(self) -> str:
        return (
            "The grokking experiment of Power et al. 2022 (arXiv:2201.02177): 40 % of all 9,409 pairs are trained on, "
            "and the model knows them by heart long before it can add the others. It gets 99 % of its training pairs "
            "right after 35 epochs, and 99 % of the held-out pairs only after 96. The curves show both: "
            "`train_accuracy`, and `accuracy`, that of the held-out pairs. The weight decay is strong (0.5), and one "
            "epoch is ten steps, each on half as many examples as there are pairs to train on."
        )

    def data(self) -> Split:
        split = modular_addition(MODULUS, SHARE, self.seed)
        repeated = [np.tile(array, (PASSES, *[1] * (array.ndim - 1))) for array in (split.train_x, split.train_y)]
        train_x, test_x = (np.insert(x, 2, MODULUS, axis=1) for x in (repeated[0], split.test_x))
        return replace(split, train_x=train_x, train_y=repeated[1], test_x=test_x)

    def optimizer(self, model: Module) -> optim.Optimizer:
        return optim.AdamW(model.parameters(), lr=self.lr, betas=(0.9, 0.98), weight_decay=0.5)

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.cross_entropy(model(Tensor(x))[:, -1], y)

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        assert isinstance(model, AddingTransformer)
        pairs = len(data.train_x) // PASSES
        return {
            "accuracy": float((model.add(data.test_x[:, :2]) == data.test_y).mean()),
            "train_accuracy": float((model.add(data.train_x[:pairs, :2]) == data.train_y[:pairs]).mean()),
            "cross_entropy": self.loss(model, data.test_x, data.test_y).item(),
        }

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        assert isinstance(model, AddingTransformer)
        return {"How it adds: the embeddings of the numbers are waves of few frequencies": draw_frequencies(model)}


def draw_frequencies(model: AddingTransformer) -> "Figure":
    """Draw the size of each frequency in the embeddings of the numbers (Nanda et al. 2023, arXiv:2301.05217)."""
    embeddings = model.token_embedding.weight.detach().numpy()[: model.modulus]
    sizes = np.linalg.norm(np.fft.rfft(embeddings - embeddings.mean(axis=0), axis=0), axis=1)
    figure, axes = new_figure(8, 3)
    axis = np.ravel(axes)[0]
    axis.bar(range(1, len(sizes)), sizes[1:])
    axis.set_xlabel(f"waves over the {model.modulus} numbers")
    axis.set_ylabel("size in the embeddings")
    return figure


register_recipe(
    AddRecipe(
        name="transformer-block.modadd",
        architecture="transformer-block",
        config={"modulus": MODULUS, "embed_dim": 64, "num_heads": 4},
        epochs=200,
        batch_size=1882,
        lr=3e-3,
        target=Target("accuracy", at_least=0.99),
    )
)
