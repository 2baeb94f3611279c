"""How mnist-classifier is trained: on real MNIST files where there are any, else on digits enlarged to 28 x 28."""

from dataclasses import dataclass

from ..classification import ClassifierRecipe
from ..data import Split, digits28, mnist_idx
from ..recipe import Target, register_recipe


@dataclass(frozen=True)
class MnistRecipe(ClassifierRecipe):
    """Cross entropy on 28 x 28 digits; data_folder names a folder with MNIST's four IDX files."""

    summary = "A perceptron for 28 x 28 handwritten digits."
    example = ("00018100/00178300/00787600/03928300/07849960/03999410/00139000/00018000",)

    def details(self) -> str:
        return (
            "The published weights saw scikit-learn's 8 x 8 digits enlarged to 28 x 28, not MNIST: expect less on "
            "MNIST itself. With `--data FOLDER` the same recipe reads MNIST's IDX files, plain or gzipped."
        )

    def data(self) -> Split:
        return mnist_idx(self.data_folder) if self.data_folder else digits28()


register_recipe(
    MnistRecipe(
        name="mnist-classifier.digits28",
        architecture="mnist-classifier",
        epochs=30,
        lr=1e-3,
        target=Target("accuracy", at_least=0.95),
    )
)
