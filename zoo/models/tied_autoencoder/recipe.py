"""The recipe of tied-autoencoder.digits, and the principal components it is compared with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....core import Module, Tensor
from ....core import functional as F
from ...data import Split, digits
from ...data.images import EXAMPLE
from ...publishing.pictures import draw_image_rows
from ...training.recipe import Recipe, Target, register_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 10


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    """Mean squared error of the reconstruction. The target of an image is the image."""

    summary = "An autoencoder of 8 x 8 digits whose decoder is the encoder's weight, transposed."
    task = "image-to-image"
    example = (EXAMPLE,)
    weight_tolerance = 1e-5

    def details(self) -> str:
        return (
            "Encoder and decoder share one weight matrix: `decoder.weight` is a transposed view of `encoder.weight`. "
            "It is stored once, and is a view again after loading. `mse` is the mean squared error per pixel on "
            "held-out digits, `pca_mse` that of the same number of principal components of the training digits."
        )

    def data(self) -> Split:
        return digits()

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.mse_loss(model(Tensor(x)), Tensor(x))

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        restored = pca_reconstruction(data.train_x, data.test_x, self.config["width"])
        return {
            "mse": self.loss(model, data.test_x, data.test_y).item(),
            "pca_mse": float(np.mean((restored - data.test_x) ** 2)),
        }

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        x = data.test_x[:SHOWN]
        rows = {
            "digit": x,
            "autoencoder": model(Tensor(x)).data,
            "PCA": pca_reconstruction(data.train_x, x, self.config["width"]),
        }
        caption = f"Held-out digits, and their reconstructions from {self.config['width']} numbers"
        return {caption: draw_image_rows({label: images.reshape(-1, 8, 8) for label, images in rows.items()})}


def pca_reconstruction(train_x: np.ndarray, x: np.ndarray, width: int) -> np.ndarray:
    """Project x on the first principal components of train_x and back: no linear map of that width does better.

    train_x: (N, features).  x: (M, features).  Returns (M, features) float64.
    Source: Eckart and Young 1936, Psychometrika 1(3).
    """
    mean = train_x.mean(axis=0, dtype=np.float64)
    _, _, components = np.linalg.svd(train_x - mean, full_matrices=False)
    basis = components[:width]  # (width, features)
    return (x - mean) @ basis.T @ basis + mean


register_recipe(
    AutoencoderRecipe(
        name="tied-autoencoder.digits",
        architecture="tied-autoencoder",
        config={"in_features": 64, "width": 16},
        epochs=100,
        lr=3e-3,
        target=Target("mse", at_most=0.0113),  # the error that PCA of the same width leaves
    )
)
