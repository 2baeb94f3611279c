"""A tiny architecture and its recipe, which trains in a moment; published once for all tests."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.core import Dropout, Linear, Module, Parameter, Tensor
from statezoo.core import functional as F
from statezoo.zoo.data import Split, sha256_of_arrays


@zoo.register("tiny-net")
class TinyNet(Module):
    """Two linear layers with dropout between them; the weight of the second is the transpose of the first."""

    def __init__(self, width: int = 3):
        super().__init__()
        self.down = Linear(4, width)
        self.dropout = Dropout(0.1)
        self.up = Linear(width, 4)
        self.up.weight = Parameter(self.down.weight.T)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.dropout(self.down(x)))


@dataclass(frozen=True)
class TinyRecipe(zoo.Recipe):
    """Return the input."""

    summary = "Four numbers through three."

    def details(self) -> str:
        return "For tests only."

    def data(self) -> Split:
        x = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
        return Split(
            name="noise",
            train_x=x[:32],
            train_y=x[:32],
            test_x=x[32:],
            test_y=x[32:],
            source="Random numbers.",
            licence="Apache-2.0",
            sha256=sha256_of_arrays(x),
        )

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.mse_loss(model(Tensor(x)), Tensor(y))

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        return {"mse": self.loss(model, data.test_x, data.test_y).item()}


TINY = TinyRecipe(name="tiny-net.noise", architecture="tiny-net", config={"width": 3}, epochs=3, lr=0.01)
zoo.register_recipe(TINY)


@pytest.fixture
def tiny_recipe() -> TinyRecipe:
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Tests must not change it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    zoo.train(TINY, folder)
    return folder


@pytest.fixture(scope="session")
def published_once(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo.publish(tiny_run, tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def tiny_entry(published_once: Path, tmp_path: Path) -> Path:
    """A copy of a published entry, which a test may damage."""
    return Path(shutil.copytree(published_once, tmp_path / published_once.name))
