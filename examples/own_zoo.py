"""Your own zoo: register an architecture, write its recipe, train it, publish it, and load it from its folder.

python examples/own_zoo.py [FOLDER]
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statezoo import zoo
from statezoo.core import Linear, Module, Tanh, Tensor
from statezoo.core import functional as F
from statezoo.zoo.data import Split, sha256_of_arrays


@zoo.register("sine-net")
class SineNet(Module):
    """A small network for one period of the sine."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.fc1 = Linear(1, width)
        self.tanh = Tanh()
        self.fc2 = Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.tanh(self.fc1(x)))  # (N, 1) -> (N, 1)

    @property
    def interface(self) -> zoo.Interface:
        """What the manifest says about the input, for pages and programs that do not use this library."""
        field = {"name": "angle", "kind": "numbers", "length": 1, "steps": []}
        return zoo.Interface(("batch", "angle"), ("batch", "sine"), preprocessing=[field])

    def predict(self, angle: float | str) -> float:
        return self(Tensor([[float(angle)]])).item()


@dataclass(frozen=True)
class SineRecipe(zoo.Recipe):
    """Mean squared error on random angles."""

    summary = "The sine of an angle between -pi and pi."
    task = "tabular-regression"
    example = (1.5,)

    def data(self) -> Split:
        rng = np.random.default_rng(self.seed)
        x = rng.uniform(-np.pi, np.pi, (512, 1)).astype(np.float32)
        y = np.sin(x)
        return Split(
            name="sine",
            train_x=x[:384],
            train_y=y[:384],
            test_x=x[384:],
            test_y=y[384:],
            source="Made by examples/own_zoo.py.",
            licence="Apache-2.0",
            sha256=sha256_of_arrays(x, y),
        )

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.mse_loss(model(Tensor(x)), Tensor(y))

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        return {"mse": self.loss(model, data.test_x, data.test_y).item()}


def main(folder: Path) -> None:
    recipe = SineRecipe(
        name="sine-net",
        architecture="sine-net",
        config={"width": 16},
        epochs=200,
        lr=0.01,
        target=zoo.Target("mse", at_most=1e-3),
    )
    zoo.register_recipe(recipe)
    zoo.train(recipe, folder / "runs" / "sine-net")
    entry = zoo.publish(folder / "runs" / "sine-net", zoo=folder / "my-zoo")
    model = zoo.load(f"file:{entry}")
    print(f"published {entry}; sine of 1.5 is {np.sin(1.5):.4f}, the model says {model.predict(1.5):.4f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
