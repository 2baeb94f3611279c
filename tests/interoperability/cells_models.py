"""Models of other frameworks, saved and loaded by us."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cells import add

from statezoo.checkpoints import MismatchError, diff, fingerprint, load_model, save_model

TABLE = "models"
# Returns a model with values that follow from a seed, and a function that returns its output.
Build = Callable[[int], tuple[Any, Callable[[Any], np.ndarray]]]


def _round_trip(folder: Path, build: Build, suffix: str) -> str:
    """Save a model, load the file into another one, and compare outputs, fingerprints and differences."""
    (model, output), (other, _) = build(1), build(2)
    path = folder / f"model{suffix}"
    save_model(model, path)
    assert not np.array_equal(output(other), output(model))
    result = load_model(other, path)
    loaded = result if result is not None and type(result) is type(other) else other
    assert np.array_equal(output(loaded), output(model))
    assert fingerprint(loaded) == fingerprint(path)
    assert diff(loaded, path).same
    return "yes"


def _all_or_nothing(folder: Path, build: Build, smaller: Build) -> str:
    """Load a file that does not fit, and compare the output before and after."""
    model, output = build(1)
    save_model(smaller(2)[0], folder / "model.safetensors")
    before = output(model)
    try:
        load_model(model, folder / "model.safetensors")
    except MismatchError:
        assert np.array_equal(output(model), before)
        return "yes"
    raise AssertionError("it was loaded")


def _torch(seed: int, width: int = 4):
    import torch

    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 3))
    model[1].running_mean.uniform_()  # pyright: ignore[reportCallIssue]

    def output(model: Any) -> np.ndarray:
        with torch.no_grad():
            return model.eval()(torch.ones(2, 3)).numpy()

    return model, output


def _keras(seed: int, width: int = 4):
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(width), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    return model, lambda model: np.asarray(model.predict_on_batch(np.ones((2, 3), "f4")))


def _jax(seed: int, width: int = 4):
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(seed), 2)
    tree = {"layers": [{"w": jax.random.normal(key, (width, width))} for key in keys], "step": jnp.asarray(seed)}

    def output(tree: Any) -> np.ndarray:
        x = jnp.ones(width)
        for layer in tree["layers"]:
            x = jnp.tanh(x @ layer["w"])
        return np.asarray(x)

    return tree, output


def _equinox(seed: int, width: int = 4):
    import equinox as eqx
    import jax

    model = eqx.nn.MLP(3, 2, width, 2, key=jax.random.key(seed))
    return model, lambda model: np.asarray(model(np.ones(3, "f4")))


def _nnx(seed: int, width: int = 4):
    from flax import nnx

    rngs = nnx.Rngs(seed)
    model = nnx.Sequential(nnx.Linear(3, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs))
    return model, lambda model: np.asarray(model(np.ones((2, 3), "f4")))


def _mlx(seed: int, width: int = 4):
    import mlx.core as mx
    import mlx.nn as nn

    mx.random.seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))
    mx.eval(model.parameters())
    return model, lambda model: np.array(model(mx.ones((2, 3))))


def _arrays(seed: int, width: int = 4):
    random = np.random.default_rng(seed)
    tree = {"a": random.normal(size=(width, 3)), "b": {"c": [random.normal(size=width)]}}
    return tree, lambda tree: tree["a"].T @ tree["b"]["c"][0]


_FRAMEWORKS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "torch.nn.Module": (_torch, "main", ("torch",)),
    "Keras on torch": (_keras, "keras on torch", ("keras", "torch")),
    "Keras on jax": (_keras, "keras on jax", ("keras", "jax")),
    "JAX: dicts and lists of arrays": (_jax, "main", ("jax",)),
    "Equinox module": (_equinox, "main", ("equinox",)),
    "Flax nnx module": (_nnx, "main", ("flax",)),
    "MLX module": (_mlx, "main", ("mlx",)),
    "NumPy: dicts and lists of arrays": (_arrays, "main", ("numpy",)),
}
for _row, (_build, _environment, _packages) in _FRAMEWORKS.items():
    for _suffix in (".safetensors", ".h5", ".npz"):
        add(
            TABLE,
            _row,
            _suffix,
            lambda folder, build=_build, suffix=_suffix: _round_trip(folder, build, suffix),
            *_packages,
            environment=_environment,
        )
    add(
        TABLE,
        _row,
        "all or nothing",
        lambda folder, build=_build: _all_or_nothing(folder, build, lambda seed: build(seed, 5)),
        *_packages,
        environment=_environment,
    )
