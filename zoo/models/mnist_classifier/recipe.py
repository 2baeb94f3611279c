"""The recipes of mnist-classifier: on digits enlarged to 28 x 28, or on MNIST's files."""

from dataclasses import dataclass

from ...training.recipe import Target, register_recipe
from ..shared.classification import CHOSEN_BY_HAND
from ..shared.digits28 import Digits28Recipe, MnistRecipe

SUMMARY = "A perceptron for 28 x 28 handwritten digits."


@dataclass(frozen=True)
class PerceptronMnistRecipe(MnistRecipe):
    """Cross entropy on MNIST, whose four IDX files are in data_folder."""

    summary = SUMMARY


@dataclass(frozen=True)
class PerceptronDigits28Recipe(Digits28Recipe):
    """Cross entropy on scikit-learn's digits, enlarged. With a data_folder it becomes the recipe for MNIST."""

    summary = SUMMARY

    def details(self) -> str:
        return (
            "The weights are trained on scikit-learn's 8 x 8 digits enlarged to 28 x 28, not on MNIST: expect less on "
            "MNIST itself. With `data_folder` (`--data FOLDER` in a shell) the recipe reads MNIST's IDX files, plain "
            f"or gzipped, and trains `mnist-classifier.mnist` instead. {CHOSEN_BY_HAND}"
        )


register_recipe(
    PerceptronDigits28Recipe(
        name="mnist-classifier.digits28",
        architecture="mnist-classifier",
        epochs=30,
        target=Target("accuracy", at_least=0.95),
    )
)
register_recipe(
    PerceptronMnistRecipe(
        name="mnist-classifier.mnist",
        architecture="mnist-classifier",
        epochs=10,
        target=Target("accuracy", at_least=0.95),
    )
)
