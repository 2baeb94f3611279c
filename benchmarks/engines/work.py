"""The work that the engine is measured with: four small models, with the same weights and data for every contestant.

Weights have the names and the layout of a state_dict, the same here and in PyTorch: a Linear has weight (out, in).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

VOCABULARY, EMBED_DIM, HEADS, LENGTH = 64, 64, 4, 32

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
    norms = ("block.ln1", "block.ln2", "ln")
    projection = _linear(rng, "", EMBED_DIM, 3 * EMBED_DIM)
    weights = {
        "token_embedding.weight": 0.1 * rng.standard_normal((VOCABULARY, EMBED_DIM), np.float32),
        "position_embedding.weight": 0.1 * rng.standard_normal((LENGTH, EMBED_DIM), np.float32),
        **{f"{norm}.weight": np.ones(EMBED_DIM, np.float32) for norm in norms},
        **{f"{norm}.bias": np.zeros(EMBED_DIM, np.float32) for norm in norms},
        "block.attention.in_proj_weight": projection[".weight"],
        "block.attention.in_proj_bias": projection[".bias"],
        **_linear(rng, "block.attention.out_proj", EMBED_DIM, EMBED_DIM),
        **_linear(rng, "block.mlp.fc1", EMBED_DIM, 4 * EMBED_DIM),
        **_linear(rng, "block.mlp.fc2", 4 * EMBED_DIM, EMBED_DIM),
    }
    text = rng.integers(VOCABULARY, size=(16, LENGTH + 1))
    x, y = text[:, :-1].copy(), text[:, 1:].copy()
    title = "TransformerBlock language model, d_model 64, 4 heads, 16 sequences of 32, tied head, AdamW"
    return Work("transformer", title, weights, x, y, x[:1], "cross_entropy", "AdamW", 1e-3)


def linear() -> Work:
    rng = np.random.default_rng(3)
    weights = {key.lstrip("."): array for key, array in _linear(rng, "", 2, 1).items()}
    x = rng.standard_normal((4, 2), np.float32)
    y = x @ np.array([[2.0], [-1.0]], np.float32) + 1
    return Work("linear", "Linear(2, 1), 4 rows, MSE, SGD", weights, x, y, x[:1], "mse", "SGD", 0.05)


WORK = {make.__name__: make for make in (tense, mlp, transformer, linear)}
