"""VAE: a variational autoencoder, whose code is a place in a plane.

Source: Kingma and Welling 2013, arXiv:1312.6114, section 3 and appendix C.
"""

import numpy as np

from ....core import Linear, Module, Tensor, no_grad, randn_like
from ....core import functional as F
from ...data.images import image_field, parse_image
from ...interface.applying import Interface, prepare
from ...registry import register


@register("vae")
class VAE(Module):
    """An encoder to the mean and log variance of `latent` numbers, and a decoder from such numbers to an image.

    In training mode the numbers are drawn from their distribution. In eval mode they are its mean.
    """

    def __init__(self, in_features: int = 64, hidden: int = 128, latent: int = 2):
        super().__init__()
        self.encoder = Linear(in_features, hidden)
        self.mean = Linear(hidden, latent)
        self.log_variance = Linear(hidden, latent)
        self.decoder = Linear(latent, hidden)
        self.pixels = Linear(hidden, in_features)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log variance of the code. x: (N, in_features).  Both are (N, latent)."""
        hidden = F.gelu(self.encoder(x))
        return self.mean(hidden), self.log_variance(hidden)

    def sample(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Draw a code (N, latent). The noise is drawn apart, so gradients reach both arguments (section 2.4)."""
        deviation = (log_variance * 0.5).exp()
        return mean + deviation * randn_like(deviation)

    def decode(self, code: Tensor) -> Tensor:
        """Return the logits of the pixels. code: (N, latent).  Returns (N, in_features)."""
        return self.pixels(F.gelu(self.decoder(code)))

    def forward(self, x: Tensor) -> Tensor:
        code = self.sample(*self.encode(x)) if self.training else self.mean(F.gelu(self.encoder(x)))
        return F.sigmoid(self.decode(code))  # (N, latent) -> (N, in_features)

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
