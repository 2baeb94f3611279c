"""MnistClassifier: a perceptron over flattened 28 x 28 images."""

from ....core import Flatten, Linear, ReLU, Sequential, Tensor
from ...registry import register
from ..shared.images import Classifier28


@register("mnist-classifier")
class MnistClassifier(Classifier28):
    """A classifier of 28 x 28 images: Flatten, then 784 -> 256 -> 128 -> 10 with ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Sequential(Flatten(), Linear(28 * 28, 256), ReLU(), Linear(256, 128), ReLU(), Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (N, 28, 28) -> (N, 10)
