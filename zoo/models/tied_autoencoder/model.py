"""TiedAutoencoder: the decoder's weight is a transposed view of the encoder's weight."""

from ....core import Linear, Parameter, Tensor
from ....core import functional as F
from ...registry import register
from ..shared.images import Autoencoder


@register("tied-autoencoder")
class TiedAutoencoder(Autoencoder):
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
