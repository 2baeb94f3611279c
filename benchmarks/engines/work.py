"""The work that the engine is measured with: small models, with the same weights and data for every contestant.

Weights have the names and the layout of a state_dict, the same here and in PyTorch: a Linear has weight (out, in).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

VOCABULARY, EMBED_DIM, HEADS, LENGTH, HIDDEN = 64, 64, 4, 32, 128

State = dict[str, np.ndarray]


class Work(NamedTuple):
    """A model, its data and its optimizer. x, y: a training step's batch. one: the input of an inference, batch 1."""

    name: str
    title: str
    weights: State
    x: np.ndarray
    y: np.ndarray
    one: np.ndarray
    loss: str  # "cross_entropy" or "mse"
    optimizer: str  # "SGD", "Adam" or "AdamW", with the defaults of all libraries but for lr
    lr: float


class Task(NamedTuple):
    """The functions that a contestant's `build` makes from a Work. Both return only when everything is computed."""

    step: Callable[[], Any]  # forward, backward and optimizer; returns the loss before it, which has item()
    infer: Callable[[], Any]  # returns the model's output for Work.one, as np.asarray() takes it


def _linear(rng: np.random.Generator, name: str, fan_in: int, out: int) -> State:
    bound = 1 / math.sqrt(fan_in)
    shapes = {f"{name}.weight": (out, fan_in), f"{name}.bias": (out,)}
    return {key: rng.uniform(-bound, bound, shape).astype(np.float32) for key, shape in shapes.items()}


def tense() -> Work:
    rng = np.random.default_rng(0)
    weights = _linear(rng, "fc1", 23, 16) | _linear(rng, "fc2", 16, 5)
    x = np.zeros((300, 23), np.float32)
    rows = np.arange(300)
    x[rows, rng.integers(20, size=300)] = x[rows, 20 + rng.integers(3, size=300)] = 1  # a verb and a person
    y = rng.integers(5, size=300)
    title = "TenseMLP(23, 16, 5), batch 300, cross entropy, SGD"
    return Work("tense", title, weights, x, y, x[:1], "cross_entropy", "SGD", 0.5)


def mlp() -> Work:
    rng = np.random.default_rng(1)
    sizes = {"layers.0": (64, 128), "layers.2": (128, 128), "layers.4": (128, 10)}
    weights: State = {}
    for name, (fan_in, out) in sizes.items():
        weights |= _linear(rng, name, fan_in, out)
    x, y = rng.random((64, 64), np.float32), rng.integers(10, size=64)
    title = "SimpleMLP(64, 128, 10), batch 64, cross entropy, Adam"
    return Work("mlp", title, weights, x, y, x[:1], "cross_entropy", "Adam", 1e-3)


def transformer() -> Work:
    rng = np.random.default_rng(2)
    projection = _linear(rng, "", EMBED_DIM, 3 * EMBED_DIM)
    weights = {
        "token_embedding.weight": 0.1 * rng.standard_normal((VOCABULARY, EMBED_DIM), np.float32),
        "position_embedding.weight": 0.1 * rng.standard_normal((LENGTH, EMBED_DIM), np.float32),
        **_norm("block.ln1"),
        **_norm("block.ln2"),
        **_norm("ln"),
        "block.attention.in_proj_weight": projection[".weight"],
        "block.attention.in_proj_bias": projection[".bias"],
        **_linear(rng, "block.attention.out_proj", EMBED_DIM, EMBED_DIM),
        **_linear(rng, "block.mlp.fc1", EMBED_DIM, 4 * EMBED_DIM),
        **_linear(rng, "block.mlp.fc2", 4 * EMBED_DIM, EMBED_DIM),
    }
    x, y = _text(rng, 16)
    title = "TransformerBlock language model, d_model 64, 4 heads, 16 sequences of 32, tied head, AdamW"
    return Work("transformer", title, weights, x, y, x[:1], "cross_entropy", "AdamW", 1e-3)


def linear() -> Work:
    rng = np.random.default_rng(3)
    weights = {key.lstrip("."): array for key, array in _linear(rng, "", 2, 1).items()}
    x = rng.standard_normal((4, 2), np.float32)
    y = x @ np.array([[2.0], [-1.0]], np.float32) + 1
    return Work("linear", "Linear(2, 1), 4 rows, MSE, SGD", weights, x, y, x[:1], "mse", "SGD", 0.05)


def cnn() -> Work:
    rng = np.random.default_rng(4)
    weights = _linear(rng, "conv1", 25, 8) | _linear(rng, "conv2", 200, 16)
    weights |= _linear(rng, "fc1", 256, 64) | _linear(rng, "fc2", 64, 10)
    for name, channels in {"conv1.weight": 1, "conv2.weight": 8}.items():
        weights[name] = weights[name].reshape(-1, channels, 5, 5)
    x, y = rng.random((64, 1, 28, 28), np.float32), rng.integers(10, size=64)
    title = "two Conv2d(5) with max pooling, 8 and 16 channels, two linear layers, 64 images of 28 x 28, Adam"
    return Work("cnn", title, weights, x, y, x[:1], "cross_entropy", "Adam", 1e-3)


def lstm() -> Work:
    rng = np.random.default_rng(5)
    gates = {"ih": _linear(rng, "", EMBED_DIM, 4 * HIDDEN), "hh": _linear(rng, "", HIDDEN, 4 * HIDDEN)}
    weights = {
        "embedding.weight": 0.1 * rng.standard_normal((VOCABULARY, EMBED_DIM), np.float32),
        **{f"lstm.{kind}_{gate}_l0": gates[gate][f".{kind}"] for kind in ("weight", "bias") for gate in gates},
        **_linear(rng, "fc", HIDDEN, VOCABULARY),
    }
    x, y = _text(rng, 16)
    title = f"LSTM({EMBED_DIM}, {HIDDEN}) language model, 16 sequences of {LENGTH}, Adam"
    return Work("lstm", title, weights, x, y, x[:1], "cross_entropy", "Adam", 1e-3)


def gpt() -> Work:
    rng = np.random.default_rng(6)
    weights = {
        "wte.weight": 0.1 * rng.standard_normal((VOCABULARY, EMBED_DIM), np.float32),
        "wpe.weight": 0.1 * rng.standard_normal((LENGTH, EMBED_DIM), np.float32),
        **_norm("ln"),
    }
    sizes = {"qkv": (1, 3), "out": (1, 1), "fc1": (1, 4), "fc2": (4, 1)}
    for block in ("blocks.0", "blocks.1"):
        weights |= _norm(f"{block}.ln1") | _norm(f"{block}.ln2")
        for name, (fan_in, out) in sizes.items():
            weights |= _linear(rng, f"{block}.{name}", fan_in * EMBED_DIM, out * EMBED_DIM)
    x, y = _text(rng, 16)
    title = (
        f"two decoder blocks as nanoGPT writes them, d_model {EMBED_DIM}, 16 sequences of {LENGTH}, tied head, AdamW"
    )
    return Work("gpt", title, weights, x, y, x[:1], "cross_entropy", "AdamW", 1e-3)


def _norm(name: str) -> State:
    return {f"{name}.weight": np.ones(EMBED_DIM, np.float32), f"{name}.bias": np.zeros(EMBED_DIM, np.float32)}


def _text(rng: np.random.Generator, sequences: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sequences of tokens, and the same one place further."""
    text = rng.integers(VOCABULARY, size=(sequences, LENGTH + 1))
    return text[:, :-1].copy(), text[:, 1:].copy()


WORK = {make.__name__: make for make in (tense, mlp, transformer, linear, cnn, lstm, gpt)}
