"""LeNet: two convolutions with pooling, and three linear layers, over 28 x 28 images."""

from ....core import Conv2d, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential, Tensor
from ...data.images import CLASS_PROBABILITIES, DigitPrediction, classify, image_field, parse_image
from ...interface.applying import Interface
from ...registry import register


@register("lenet")
class LeNet(Module):
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

    @property
    def interface(self) -> Interface:
        """What turns an image into the input, and the output into an answer."""
        axes = ("batch", "row", "column")
        return Interface(axes, ("batch", "class"), (image_field(28),), CLASS_PROBABILITIES)

    def predict(self, image: object) -> list[DigitPrediction]:
        """Return every class with its probability, the likeliest first. image: see `parse_image`."""
        return classify(self, self.interface.preprocessing, parse_image(image, side=28))
