"""The recipes of mnist-classifier: on digits enlarged to 28 x 28, or on MNIST's files."""

from dataclasses import dataclass
from typing import Any

from ...data import Split, digits28, mnist_idx
from ...data.images import EXAMPLE
from ...errors import DataError
from ...training.recipe import Recipe, Target, get_recipe, register_recipe
from ..shared.classification import CHOSEN_BY_HAND, ClassifierRecipe


@dataclass(frozen=True)
class MnistRecipe(ClassifierRecipe):
    """Cross entropy on MNIST, whose four IDX files are in data_folder."""

    summary = "A perceptron for 28 x 28 handwritten digits."
    example = (EXAMPLE,)
    reads_folder = True

    def details(self) -> str:
        return "The weights are trained on MNIST, read from its IDX files, plain or gzipped."

    def data(self) -> Split:
        if self.data_folder is None:
            raise DataError(f"{self.name} needs the folder of MNIST's IDX files: pass data_folder.")
        return mnist_idx(self.data_folder)


@dataclass(frozen=True)
class Digits28Recipe(ClassifierRecipe):
    """Cross entropy on scikit-learn's digits, enlarged. With a data_folder it becomes the recipe for MNIST."""

    summary = "A perceptron for 28 x 28 handwritten digits."
    example = (EXAMPLE,)

    def details(self) -> str:
        return (
            "The weights are trained on scikit-learn's 8 x 8 digits enlarged to 28 x 28, not on MNIST: expect less on "
            "MNIST itself. With `data_folder` (`--data FOLDER` in a shell) the recipe reads MNIST's IDX files, plain "
            f"or gzipped, and trains `mnist-classifier.mnist` instead. {CHOSEN_BY_HAND}"
        )

    def data(self) -> Split:
        return digits28()

    def with_settings(self, **settings: Any) -> Recipe:
        """Return the same recipe with some settings changed; with a data_folder, that of mnist-classifier.mnist."""
        if settings.get("data_folder") is None:
            return super().with_settings(**settings)
        # Other data makes another entry, which must not have the name of this one.
        return get_recipe("mnist-classifier.mnist").with_settings(**settings)


register_recipe(
    Digits28Recipe(
        name="mnist-classifier.digits28",
        architecture="mnist-classifier",
        epochs=30,
        target=Target("accuracy", at_least=0.95),
    )
)
register_recipe(
    MnistRecipe(
        name="mnist-classifier.mnist",
        architecture="mnist-classifier",
        epochs=10,
        target=Target("accuracy", at_least=0.95),
    )
)
