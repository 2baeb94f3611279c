"""MnistClassifier: a perceptron over flattened 28 x 28 images."""

from ....core import Flatten, Linear, Module, ReLU, Sequential, Tensor
from ...data.images import CLASS_PROBABILITIES, DigitPrediction, classify, image_field, parse_image
from ...interface.applying import Interface
from ...registry import register


@register("mnist-classifier")
class MnistClassifier(Module):
    """A classifier of 28 x 28 images: Flatten, then 784 -> 256 -> 128 -> 10 with ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Sequential(Flatten(), Linear(28 * 28, 256), ReLU(), Linear(256, 128), ReLU(), Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # (N, 28, 28) -> (N, 10)

    @property
    def interface(self) -> Interface:
        """What turns an image into the input, and the output into an answer."""
        axes = ("batch", "row", "column")
        return Interface(axes, ("batch", "class"), (image_field(28),), CLASS_PROBABILITIES)

    def predict(self, image: object) -> list[DigitPrediction]:
        """Return every class with its probability, the likeliest first. image: see `parse_image`."""
        return classify(self, self.interface.preprocessing, parse_image(image, side=28))
