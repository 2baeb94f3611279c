"""The recipes of classifiers of 28 x 28 digits: on scikit-learn's digits, enlarged, or on MNIST's files."""

from dataclasses import dataclass
from typing import Any

from ...data import Split, digits28, mnist_idx
from ...data.images import EXAMPLE
from ...errors import DataError
from ...training.recipe import Recipe, get_recipe
from .classification import ClassifierRecipe


@dataclass(frozen=True)
class Digits28Recipe(ClassifierRecipe):
    """Cross entropy on scikit-learn's digits, enlarged. With a data_folder it becomes the recipe for MNIST."""

    example = (EXAMPLE,)

    def data(self) -> Split:
        return digits28()

    def with_settings(self, **settings: Any) -> Recipe:
        """Return the same recipe with some settings changed; with a data_folder, that of the architecture for MNIST."""
        if settings.get("data_folder") is None:
            return super().with_settings(**settings)
        # Other data makes another entry, which must not have the name of this one.
        return get_recipe(f"{self.architecture}.mnist").with_settings(**settings)


@dataclass(frozen=True)
class MnistRecipe(ClassifierRecipe):
    """Cross entropy on MNIST, whose four IDX files are in data_folder."""

    example = (EXAMPLE,)
    reads_folder = True

    def details(self) -> str:
        return "The weights are trained on MNIST, read from its IDX files, plain or gzipped."

    def data(self) -> Split:
        if self.data_folder is None:
            raise DataError(f"{self.name} needs the folder of MNIST's IDX files: pass data_folder.")
        return mnist_idx(self.data_folder)
