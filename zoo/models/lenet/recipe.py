"""The recipes of lenet: on digits enlarged to 28 x 28, or on MNIST's files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ....core import Module, Tensor
from ....core.random import default_generator
from ...data import Split, digits28, mnist_idx
from ...data.images import EXAMPLE
from ...errors import DataError
from ...training.recipe import Recipe, Target, get_recipe, register_recipe
from ..shared.classification import CHOSEN_BY_HAND, ClassifierRecipe

MOST = 2  # how many pixels an image is moved in each direction


@dataclass(frozen=True)
class LeNetRecipe(ClassifierRecipe):
    """Cross entropy on scikit-learn's digits, enlarged and moved. With a data_folder it becomes the one for MNIST."""

    # Other kernels change the accuracy by 0.0056 and the cross entropy by 0.0057 (docs/proof.md); twice that.
    retrained_tolerances: ClassVar[Mapping[str, float]] = {"accuracy": 0.012, "cross_entropy": 0.012}
    summary = "A convolutional network for 28 x 28 handwritten digits, after LeNet-5."
    example = (EXAMPLE,)

    def details(self) -> str:
        return (
            "The weights are trained on scikit-learn's 8 x 8 digits enlarged to 28 x 28, not on MNIST: expect less on "
            f"MNIST itself. In training each image is moved by up to {MOST} pixels in both directions. With "
            "`data_folder` (`--data FOLDER` in a shell) the recipe reads MNIST's IDX files, plain or gzipped, and "
            f"trains `lenet.mnist` instead. {CHOSEN_BY_HAND}"
        )

    def data(self) -> Split:
        return digits28()

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return super().loss(model, moved(x) if model.training else x, y)

    def with_settings(self, **settings: Any) -> Recipe:
        """Return the same recipe with some settings changed; with a data_folder, that of lenet.mnist."""
        if settings.get("data_folder") is None:
            return super().with_settings(**settings)
        # Other data makes another entry, which must not have the name of this one.
        return get_recipe("lenet.mnist").with_settings(**settings)


@dataclass(frozen=True)
class MnistLeNetRecipe(LeNetRecipe):
    """Cross entropy on MNIST, whose four IDX files are in data_folder."""

    reads_folder = True

    def details(self) -> str:
        return "The weights are trained on MNIST, read from its IDX files, plain or gzipped."

    def data(self) -> Split:
        if self.data_folder is None:
            raise DataError(f"{self.name} needs the folder of MNIST's IDX files: pass data_folder.")
        return mnist_idx(self.data_folder)

    def with_settings(self, **settings: Any) -> Recipe:
        """Return the same recipe with some settings changed."""
        return ClassifierRecipe.with_settings(self, **settings)


def moved(images: np.ndarray) -> np.ndarray:
    """Return images (N, H, W), each moved by up to MOST pixels down or up and right or left, with zeros at the edge.

    The moves are drawn from the default generator.
    """
    n, height, width = images.shape
    wide = np.zeros((n, height + 2 * MOST, width + 2 * MOST), images.dtype)
    wide[:, MOST:-MOST, MOST:-MOST] = images
    down, right = default_generator().integers(0, 2 * MOST + 1, (2, n, 1))
    rows, columns = down + np.arange(height), right + np.arange(width)
    return wide[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


register_recipe(
    LeNetRecipe(
        name="lenet.digits28",
        architecture="lenet",
        epochs=60,
        lr=1e-3,
        target=Target("accuracy", at_least=0.985),
    )
)
register_recipe(
    MnistLeNetRecipe(name="lenet.mnist", architecture="lenet", epochs=10, target=Target("accuracy", at_least=0.985))
)
