"""Keras models of many kinds: functions that build one, with random weights. Keras is imported when one is called."""

from collections.abc import Callable
from typing import Any

import numpy as np


def _sequential() -> Any:
    import keras

    layers = [keras.layers.Dense(4) for _ in range(12)]
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)])


def _functional() -> Any:
    import keras
    from keras import layers

    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8, name="tokens")(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4, name="attention")(x, x))
    recurrent = [layers.LSTM(3)(x), layers.GRU(3)(x), layers.Bidirectional(layers.LSTM(2))(x)]
    return keras.Model(tokens, layers.Dense(2)(layers.concatenate(recurrent)))


def _shared() -> Any:
    import keras

    shared, x = keras.layers.Dense(4, name="shared"), keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(2)(shared(keras.layers.BatchNormalization()(shared(x)))))


def _nested() -> Any:
    import keras

    inner = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(4)])
    deep = keras.Sequential([inner, keras.layers.Dense(3)])
    x = keras.Input((4,))
    return keras.Model(x, keras.layers.Dense(2)(deep(inner(x))))


def _subclass() -> Any:
    import keras
    from keras import layers

    class Subclass(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [layers.Dense(4), [layers.Dense(4)], {"a": layers.Dense(4)}]
            self.encoder = keras.Sequential([layers.Dense(4), layers.Dense(4)])
            self.again = self.blocks[0]
            self.scale = self.add_weight(shape=(4,), name="scale", initializer="ones")

        def call(self, x: Any) -> Any:
            first, (second,), third = self.blocks
            return self.encoder(third["a"](second(first(x)))) * self.scale

    model = Subclass()
    model(np.zeros((1, 4), "f4"))
    return model


def _with_dtype(policy: str) -> Callable[[], Any]:
    def build() -> Any:
        import keras

        layers = [keras.layers.Dense(4, dtype=policy), keras.layers.BatchNormalization(dtype=policy)]
        return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(2)])

    return build


def _convolutional() -> Any:
    import keras
    from keras import layers

    x = keras.Input((8, 8, 3))
    y = layers.SeparableConv2D(4, 3)(layers.Conv2D(4, 3, padding="same")(layers.Normalization()(x)))
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))


KINDS: dict[str, Callable[[], Any]] = {
    "sequential": _sequential,
    "functional": _functional,
    "shared layer": _shared,
    "nested": _nested,
    "subclass": _subclass,
    "bfloat16": _with_dtype("bfloat16"),
    "mixed bfloat16": _with_dtype("mixed_bfloat16"),
    "float16": _with_dtype("float16"),
    "convolutional": _convolutional,
}


def _variables_of(model: Any) -> list[Any]:
    """Return the variables of a model, without the states of its generators, which Keras does not always save."""
    return [variable for variable in model.variables if "seed" not in variable.path]


def randomize(model: Any, seed: int) -> None:
    """Give every variable of a model random values, so that none can be mistaken for another."""
    generator = np.random.default_rng(seed)
    for variable in _variables_of(model):
        variable.assign(generator.standard_normal(variable.shape).astype("f4"))


def bits_of(model: Any) -> list[bytes]:
    """Return the bytes of every variable of a model."""
    import keras

    return [np.asarray(keras.ops.convert_to_numpy(variable.value)).tobytes() for variable in _variables_of(model)]
