"""VAE: a variational autoencoder, whose code is a place in a plane.

Source: Kingma and Welling 2013, arXiv:1312.6114, section 3 and appendix C.
"""

from ....core import Linear, Tensor, randn_like
from ....core import functional as F
from ...registry import register
from ..shared.images import Autoencoder


@register("vae")
class VAE(Autoencoder):
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
