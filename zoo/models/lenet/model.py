"""LeNet: two convolutions with pooling, and three linear layers, over 28 x 28 images."""

from ....core import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, Tensor
from ...registry import register
from ..shared.images import Classifier28


@register("lenet")
class LeNet(Classifier28):
    """A classifier of 28 x 28 images after LeNet-5, with ReLU and maxima instead of tanh and trained averages.

    Source: LeCun, Bottou, Bengio and Haffner 1998, Proceedings of the IEEE 86, 2278-2324, section II.B.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = Sequential(
            Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2),  # (N, 1, 28, 28) -> (N, 6, 14, 14)
            Conv2d(6, 16, 5), ReLU(), MaxPool2d(2),  # -> (N, 16, 5, 5)
        )  # fmt: skip
        self.classifier = Sequential(Flatten(), Linear(400, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x.unsqueeze(1)))  # (N, 28, 28) -> (N, 10)
