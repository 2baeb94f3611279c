"""An interrupted load leaves all of the old values or all of the new ones, whatever the framework."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupted_loads import ends_of_interrupted

from statezoo.checkpoints import fingerprint, load_model, save_model

os.environ.setdefault("KERAS_BACKEND", "torch")


class Counter:
    """An object with a state_dict."""

    def __init__(self, seed: int) -> None:
        self.values = [np.full(2, float(seed)), np.full(3, float(seed))]

    def state_dict(self) -> dict[str, Any]:
        return {"values": list(self.values)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for own, value in zip(self.values, state["values"], strict=True):
            own[...] = value


def in_keras(seed: int) -> Any:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])


def in_flax(seed: int) -> Any:
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(seed)
            self.first, self.second = nnx.Linear(2, 2, rngs=rngs), nnx.Linear(2, 1, rngs=rngs)

    return Net()


def in_mlx(seed: int) -> Any:
    pytest.importorskip("mlx.core").random.seed(seed)
    nn = pytest.importorskip("mlx.nn")
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))


@pytest.mark.parametrize(
    ("make", "moments"),
    [
        (Counter, 80),
        pytest.param(in_keras, 20, marks=pytest.mark.keras),
        pytest.param(in_flax, 80, marks=pytest.mark.jax),
        pytest.param(in_mlx, 80, marks=pytest.mark.mlx),
    ],
)
def test_an_interrupted_load_leaves_old_or_new_values(tmp_path: Path, make: Callable[[int], Any], moments: int):
    model = make(1)
    save_model(model, old := tmp_path / "old.h5")
    save_model(make(2), new := tmp_path / "new.h5")
    ends = ends_of_interrupted(
        lambda: load_model(model, new), lambda: fingerprint(model), lambda: load_model(model, old), moments
    )
    assert sorted(ends) == sorted(map(fingerprint, (old, new)))
