"""Our files in Keras' models and in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from cells import add, cell

from statezoo import zoo
from statezoo.checkpoints import convert, load_file
from statezoo.zoo.entry import GOLDEN
from statezoo.zoo.loading import find

TABLE = "written"


def keras_model(seed: int) -> Any:
    """Return a Keras model with an embedding, batch norm and more than ten layers of a kind."""
    import keras

    keras.utils.set_random_seed(seed)
    first = [keras.Input((5,)), keras.layers.Embedding(7, 4), keras.layers.Flatten()]
    dense = [keras.layers.Dense(4, activation="relu") for _ in range(12)]
    return keras.Sequential([*first, *dense, keras.layers.BatchNormalization(), keras.layers.Dense(2)])


def outputs(model: Any) -> np.ndarray:
    return np.asarray(model.predict_on_batch(np.arange(15).reshape(3, 5) % 7))


def _load_weights(folder: Path) -> str:
    """Convert what Keras wrote to safetensors and back, and load that with Keras."""
    model, other = keras_model(1), keras_model(2)
    model.save_weights(folder / "keras.weights.h5")
    convert(folder / "keras.weights.h5", folder / "ours.safetensors")
    convert(folder / "ours.safetensors", folder / "ours.weights.h5", layout="keras")
    other.load_weights(folder / "ours.weights.h5")
    assert np.array_equal(outputs(other), outputs(model))
    return "yes"


for _backend in ("torch", "jax"):
    add(
        TABLE,
        f"load_weights of Keras on {_backend}",
        '.weights.h5, layout="keras"',
        _load_weights,
        "keras",
        _backend,
        environment=f"keras on {_backend}",
    )


@cell(TABLE, "ONNX Runtime", ".onnx", "onnxruntime")
def _(folder: Path) -> str:
    """Export every entry, and compare its golden output."""
    import onnxruntime

    for name in zoo.list_models():
        golden = load_file(find(name) / GOLDEN)
        path = zoo.export(name, folder / f"{name}.onnx")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: golden["input"]})
        assert np.abs(found - golden["output"]).max() <= 1e-5 * np.abs(golden["output"]).max()
    return "yes"
