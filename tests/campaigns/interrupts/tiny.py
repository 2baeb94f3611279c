"""A recipe that trains in a fraction of a second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from statezoo import core as nn
from statezoo import zoo
from statezoo.core import functional as F
from statezoo.zoo.data import Split, sha256_of_arrays


@zoo.register("interrupted-net")
class TinyNet(nn.Module):
    """A linear layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.dropout = nn.Linear(4, 4), nn.Dropout(0.1)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.fc(self.dropout(x))


@dataclass(frozen=True)
class TinyRecipe(zoo.Recipe):
    """Return the input."""

    summary = "Four numbers."

    def data(self) -> Split:
        x = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
        parts = {"train_x": x[:32], "train_y": x[:32], "test_x": x[32:], "test_y": x[32:]}
        return Split(name="noise", source="Random numbers.", licence="Apache-2.0", sha256=sha256_of_arrays(x), **parts)

    def loss(self, model: nn.Module, x: np.ndarray, y: np.ndarray) -> nn.Tensor:
        return F.mse_loss(model(nn.Tensor(x)), nn.Tensor(y))

    def evaluate(self, model: nn.Module, data: Split) -> dict[str, float]:
        return {"mse": self.loss(model, data.test_x, data.test_y).item()}


TINY = zoo.register_recipe(TinyRecipe("interrupted-net", "interrupted-net", {}, epochs=2, lr=0.01))
