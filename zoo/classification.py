"""What the recipes of image classifiers share: cross entropy, and accuracy on the held-out images."""

from dataclasses import dataclass

import numpy as np

from ..core import Module, Tensor
from ..core import functional as F
from .data import Split
from .recipe import Recipe


@dataclass(frozen=True)
class ClassifierRecipe(Recipe):
    """A recipe whose targets are class indices. Subclasses say where the images come from."""

    task = "image-classification"
    labels = tuple("0123456789")

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.cross_entropy(model(Tensor(x)), y)

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        logits = model(Tensor(data.test_x))
        return {
            "accuracy": float((logits.data.argmax(axis=-1) == data.test_y).mean()),
            "cross_entropy": F.cross_entropy(logits, data.test_y).item(),
        }
