"""The recipe of linear-regression: mean squared error on noiseless points of y = 2*x1 + 3*x2."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....core import Module, Tensor, optim
from ....core import functional as F
from ...data import Split, plane
from ...publishing.pictures import BLUE, CLASSES, new_space
from ...training.recipe import Recipe, Target, register_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUE_WEIGHT = (2.0, 3.0)


@dataclass(frozen=True)
class LinearRegressionRecipe(Recipe):
    """SGD on points with two independent inputs, which determine both weights."""

    summary = "The plane y = 2*x1 + 3*x2, recovered from 256 points by gradient descent."
    task = "tabular-regression"
    example = (3, 4)
    labels = ("y",)
    weight_tolerance = 1e-5

    def details(self) -> str:
        return (
            "The inputs have full rank. With collinear inputs, such as (1, 1), (2, 2), (3, 3), (4, 4), only the sum of "
            "the two weights is determined: `examples/collinear_regression.py` shows it."
        )

    def data(self) -> Split:
        return plane(n=320, seed=self.seed)

    def optimizer(self, model: Module) -> optim.Optimizer:
        return optim.SGD(model.parameters(), lr=self.lr)

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.mse_loss(model(Tensor(x)), Tensor(y))

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        return {
            "mse": self.loss(model, data.test_x, data.test_y).item(),
            "weight_error": float(np.abs(model.get_parameter("weight").data - TRUE_WEIGHT).max()),
        }

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        """Draw the fitted plane with the held-out points."""
        figure, axis = new_space(5.5, 4.6)
        side = np.linspace(-1, 1, 11, dtype=np.float32)
        x1, x2 = np.meshgrid(side, side)
        height = model(Tensor(np.stack([x1, x2], axis=-1))).data[..., 0]
        axis.plot_surface(x1, x2, height, color=BLUE, alpha=0.25, edgecolor=BLUE, linewidth=0.3)
        points = np.concatenate([data.test_x, data.test_y], axis=1)
        axis.scatter(*points.T, color=CLASSES[1], s=14, depthshade=False)
        axis.set(xlabel="x1", ylabel="x2", zlabel="y", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        first, second = model.get_parameter("weight").data[0]
        offset = model.get_parameter("bias").data[0]
        return {f"The fitted plane y = {first:.4f} x1 {second:+.4f} x2 {offset:+.4f} and the held-out points": figure}


register_recipe(
    LinearRegressionRecipe(
        name="linear-regression",
        architecture="linear-regression",
        config={"in_features": 2, "out_features": 1},
        epochs=60,
        batch_size=32,
        lr=0.1,
        target=Target("weight_error", at_most=1e-3),
    )
)
