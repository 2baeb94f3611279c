"""The recipe of vae.digits, with pictures of what its plane holds."""

import functools
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from ....core import Module, Tensor
from ....core import functional as F
from ...data import Split, digits
from ...data.images import EXAMPLE
from ...loading import load
from ...publishing.pictures import draw_image_rows, draw_titled_images, new_figure
from ...training.recipe import Recipe, Target, register_recipe
from ..tied_autoencoder.recipe import pca_reconstruction
from .model import VAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUTOENCODER = "tied-autoencoder.digits"
SHOWN, SIDE = 10, 11


@dataclass(frozen=True)
class VaeRecipe(Recipe):
    """The negative evidence lower bound per digit: binary cross entropy of the pixels, plus the divergence of the code.

    The noise of a step is drawn from the default generator, which a run seeds and keeps with its state.
    Source: Kingma and Welling 2013, arXiv:1312.6114, eq. 10 and appendix B.
    """

    summary = "A variational autoencoder of 8 x 8 digits, whose code is a place in a plane."
    task = "image-to-image"
    example = (EXAMPLE,)
    weight_tolerance = 5e-5

    def details(self) -> str:
        return (
            "The encoder gives the mean and the log variance of two numbers. Training draws them from that "
            "distribution; the model in eval mode, `predict` and exported files use the mean. `mse` is the mean "
            "squared error per pixel on held-out digits, `pca_mse` that of the same number of principal components of "
            f"the training digits, and `autoencoder_mse` that of `{AUTOENCODER}`, which has 16 numbers for a digit "
            "instead of two. `divergence` is the mean Kullback-Leibler divergence of the code from a standard normal "
            "distribution, in nats. To draw a new digit, decode two normal numbers: "
            "`model.decode(core.randn(1, 2)).sigmoid()`."
        )

    def data(self) -> Split:
        return digits()

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        assert isinstance(model, VAE)
        mean, log_variance = model.encode(Tensor(x))
        code = model.sample(mean, log_variance) if model.training else mean
        pixels = F.binary_cross_entropy_with_logits(model.decode(code), Tensor(x), reduction="sum")
        return (pixels + _divergence(mean, log_variance)) / len(x)

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        assert isinstance(model, VAE)
        restored = pca_reconstruction(data.train_x, data.test_x, self.config["latent"])
        return {
            "mse": F.mse_loss(model(Tensor(data.test_x)), data.test_x).item(),
            "divergence": _divergence(*model.encode(Tensor(data.test_x))).item() / len(data.test_x),
            "pca_mse": float(np.mean((restored - data.test_x) ** 2)),
            "autoencoder_mse": _autoencoder_error(),
        }

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        assert isinstance(model, VAE)
        x, latent = data.test_x[:SHOWN], self.config["latent"]
        rows = {
            "digit": x,
            f"VAE, {latent} numbers": model(Tensor(x)).data,
            f"PCA, {latent} numbers": pca_reconstruction(data.train_x, x, latent),
            "autoencoder, 16 numbers": load(AUTOENCODER)(Tensor(x)).data,
        }
        drawn = np.random.default_rng(self.seed).standard_normal((2 * SHOWN, latent)).astype(np.float32)
        return {
            "Held-out digits, and their reconstructions": draw_image_rows(
                {label: images.reshape(-1, 8, 8) for label, images in rows.items()}
            ),
            "New digits, decoded from random places": draw_titled_images(
                _images(model, drawn), [""] * len(drawn), SHOWN
            ),
            "A walk through the plane, and the places of the held-out digits in it": _draw_plane(model, data),
        }


def _divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the divergence of the codes from the standard normal distribution, summed, in nats."""
    return (mean * mean + log_variance.exp() - log_variance - 1).sum() * 0.5


@functools.cache
def _autoencoder_error() -> float:
    x = digits().test_x
    return F.mse_loss(load(AUTOENCODER)(Tensor(x)), x).item()


def _images(model: VAE, codes: np.ndarray) -> np.ndarray:
    """Return the images (N, 8, 8) of codes (N, latent)."""
    return F.sigmoid(model.decode(Tensor(codes))).data.reshape(-1, 8, 8)


def _draw_plane(model: VAE, data: Split) -> "Figure":
    """Draw the images of a grid of places, and beside it each held-out digit at its place.

    The grid has equal steps in probability, so each of its squares holds as many samples as any other.
    """
    steps = np.array([NormalDist().inv_cdf((n + 0.5) / SIDE) for n in range(SIDE)], np.float32)
    grid = np.stack(np.meshgrid(steps, steps[::-1]), axis=-1).reshape(-1, 2)  # rows from the top down
    framed = np.pad(_images(model, grid), ((0, 0), (1, 1), (1, 1)))
    images = framed.reshape(SIDE, SIDE, 10, 10).transpose(0, 2, 1, 3).reshape(SIDE * 10, SIDE * 10)
    figure, ((walk, places),) = new_figure(10, 5, columns=2)
    walk.imshow(images, cmap="gray_r", vmin=0, vmax=1)
    ticks = [0, SIDE // 2, SIDE - 1]
    walk.set_xticks([10 * n + 4.5 for n in ticks], [f"{steps[n]:.2f}" for n in ticks])
    walk.set_yticks([10 * n + 4.5 for n in ticks], [f"{steps[::-1][n]:.2f}" for n in ticks])
    code = model.encode(Tensor(data.test_x))[0].data
    for (across, up), digit in zip(code, data.test_y, strict=True):
        places.text(across, up, str(digit), fontsize=7, ha="center", va="center", color=f"C{digit}")
    limit = 1.05 * float(np.abs(code).max())
    places.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    for axis in (walk, places):
        axis.set_xlabel("first number")
        axis.set_ylabel("second number")
    return figure


register_recipe(
    VaeRecipe(
        name="vae.digits",
        architecture="vae",
        config={"in_features": 64, "hidden": 128, "latent": 2},
        epochs=300,
        lr=3e-3,
        target=Target("mse", at_most=0.036),
    )
)
