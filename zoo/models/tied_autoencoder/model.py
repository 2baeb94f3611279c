"""TiedAutoencoder: the decoder's weight is a transposed view of the encoder's weight."""

import numpy as np

from ....core import Linear, Module, Parameter, Tensor, no_grad
from ....core import functional as F
from ...data.images import image_field, parse_image
from ...interface.applying import Interface, prepare
from ...registry import register


@register("tied-autoencoder")
class TiedAutoencoder(Module):
    """An autoencoder from 64 pixels to `width` numbers, with one weight: x -> gelu(W x + b) -> sigmoid(W.T h + c)."""

    def __init__(self, in_features: int = 64, width: int = 16):
        super().__init__()
        self.encoder = Linear(in_features, width)
        self.decoder = Linear(width, in_features)
        # A view, not a copy: its gradient flows to the encoder's weight, and an optimizer updates the memory once.
        self.decoder.weight = Parameter(self.encoder.weight.T)

    def forward(self, x: Tensor) -> Tensor:
        code = F.gelu(self.encoder(x))  # (N, in_features) -> (N, width)
        return F.sigmoid(self.decoder(code))  # -> (N, in_features)

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
