"""The recipes of the two digit perceptrons: AdamW on scikit-learn's digits, one with batch norm and dropout."""

from dataclasses import dataclass

from ...data import Split, digits
from ...data.images import EXAMPLE
from ...training.recipe import Target, register_recipe
from ..shared.classification import CHOSEN_BY_HAND, ClassifierRecipe


@dataclass(frozen=True)
class DigitsRecipe(ClassifierRecipe):
    """Cross entropy on 8 x 8 digits, flattened."""

    summary = "A perceptron that classifies 8 x 8 handwritten digits."
    example = (EXAMPLE,)

    def details(self) -> str:
        return CHOSEN_BY_HAND

    def data(self) -> Split:
        return digits()


@dataclass(frozen=True)
class BatchNormDigitsRecipe(DigitsRecipe):
    """The same with batch norm and dropout."""

    summary = "A perceptron with batch norm and dropout that classifies 8 x 8 handwritten digits."

    def details(self) -> str:
        return (
            "This entry has buffers: each BatchNorm1d keeps `running_mean`, `running_var` and `num_batches_tracked`, "
            "which are state although no optimizer updates them. In eval mode the running statistics are used and "
            "dropout is off; in training mode the same input gives another output. "
            f"{CHOSEN_BY_HAND}"
        )


register_recipe(
    DigitsRecipe(
        name="simple-mlp.digits",
        architecture="simple-mlp",
        config={"in_dim": 64, "hidden_dim": 128, "out_dim": 10},
        epochs=60,
        lr=2e-3,
        target=Target("accuracy", at_least=0.97),
    )
)
register_recipe(
    BatchNormDigitsRecipe(
        name="simple-mlp.digits-bn",
        architecture="simple-mlp",
        config={"in_dim": 64, "hidden_dim": 128, "out_dim": 10, "batch_norm": True, "dropout": 0.2},
        epochs=60,
        lr=2e-3,
        target=Target("accuracy", at_least=0.97),
    )
)
