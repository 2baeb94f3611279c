"""What models of images declare and answer: classifiers of 28 x 28 images, and autoencoders of square ones."""

import numpy as np

from ....core import Linear, Module, Tensor, no_grad
from ...data.images import CLASS_PROBABILITIES, DigitPrediction, classify, image_field, parse_image
from ...interface.applying import Interface, prepare


class Classifier28(Module):
    """The base class of classifiers of 28 x 28 images: (N, 28, 28) -> (N, 10)."""

    @property
    def interface(self) -> Interface:
        """What turns an image into the input, and the output into an answer."""
        axes = ("batch", "row", "column")
        return Interface(axes, ("batch", "class"), (image_field(28),), CLASS_PROBABILITIES)

    def predict(self, image: object) -> list[DigitPrediction]:
        """Return every class with its probability, the likeliest first. image: see `parse_image`."""
        return classify(self, self.interface.preprocessing, parse_image(image, side=28))


class Autoencoder(Module):
    """The base class of autoencoders of square images, flattened: (N, pixels) -> (N, pixels)."""

    encoder: Linear

    @property
    def interface(self) -> Interface:
        """What turns an image into the input, and the output into an image."""
        fields, axes = (image_field(self._side, "flatten"),), ("batch", "pixel")
        return Interface(axes, axes, fields, ({"op": "reshape", "shape": [self._side, self._side]},))

    def predict(self, image: object) -> np.ndarray:
        """Return the reconstruction (8, 8) of an image. image: see `parse_image`."""
        x = prepare(self.interface.preprocessing, {"image": parse_image(image, self._side)}, np.float32)
        with no_grad():
            return self(Tensor(x[None])).data.reshape(self._side, self._side)

    @property
    def _side(self) -> int:
        return round(self.encoder.in_features**0.5)
