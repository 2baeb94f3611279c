"""The floor: the work written by hand in NumPy, with its gradients derived on paper and no engine at all.

These make it fast, and an engine cannot or need not do them:

- All memory is allocated once, before the first step; every operation writes into it (out=).
- Activations are feature-major, (features, batch): per-feature and per-example operations then run along long rows,
  even with only five classes, and sums over features add rows.
- There is a row of ones below the features, and each weight has its bias beside it: (out, in + 1). One product computes
  the linear layer with its bias, and one gives the gradients of both.
- All parameters are one vector, all gradients another: an optimizer is a few operations, whatever the model.
- BLAS has already written to the memory it packs matrices into, as in statezoo (core/blas.py says why).

Nothing is checked, and a model fits only the batch size it was made for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from engines.work import Task, Work

np.ones((64, 384), np.float32).dot(np.ones((384, 352), np.float32))

WITHOUT = ("cnn", "lstm", "gpt")  # the work that nobody has written by hand
LAYERS = {"tense": ("fc1.", "fc2."), "mlp": ("layers.0.", "layers.2.", "layers.4."), "linear": ("",)}


def build(work: Work) -> Task:
    if work.name == "transformer":
        from engines.in_numpy_transformer import build as build_transformer

        return build_transformer(work)
    names = LAYERS[work.name]
    arrays = [np.c_[work.weights[f"{name}weight"], work.weights[f"{name}bias"]] for name in names]
    flat, weights = flatten(arrays)
    flat_gradient, gradients = flatten(arrays)
    model, alone = Perceptron(weights, work.x), Perceptron(weights, work.one)
    make_criterion = mean_squared_error if work.loss == "mse" else cross_entropy
    criterion = make_criterion(model.out, work.y.T)
    update = OPTIMIZERS[work.optimizer](flat, flat_gradient, work.lr)

    return Task(step_of(model, criterion, gradients, update), lambda: alone.forward().T)


def step_of(
    model: Any, criterion: Callable[[], float], gradients: list[np.ndarray], update: Callable[[], None]
) -> Callable[[], float]:
    """Return a function that does one training step and returns the loss before it."""

    def step() -> float:
        model.forward()
        loss = criterion()
        model.backward(gradients)
        update()
        return loss

    return step


def flatten(arrays: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return one vector of all elements, and its views in the shapes of arrays."""
    flat = np.concatenate([array.ravel() for array in arrays])
    ends = np.cumsum([array.size for array in arrays])[:-1]
    return flat, [part.reshape(array.shape) for part, array in zip(np.split(flat, ends), arrays, strict=True)]


def with_ones(features: int, batch: int) -> np.ndarray:
    """Return uninitialised rows of features above a row of ones, (features + 1, batch)."""
    array = np.empty((features + 1, batch), np.float32)
    array[-1] = 1
    return array


class Perceptron:
    """Linear layers with ReLU between them, for the batch x (batch, features).

    Layer l makes Z = W A of the A (in + 1, batch) before it, and max(Z, 0) is the next A. With G = dL/dZ of the layer
    above: dL/dW = G A^T, dL/dA = W^T G (its last row, of the ones, is not needed), and dL/dZ = dL/dA where A > 0.
    """

    def __init__(self, weights: list[np.ndarray], x: np.ndarray) -> None:
        batch = len(x)
        self.weights = weights
        self.inputs = [with_ones(w.shape[1] - 1, batch) for w in weights]
        self.inputs[0][:-1] = x.T
        self.hidden = [a[:-1] for a in self.inputs[1:]]
        self.out = np.empty((len(weights[-1]), batch), np.float32)  # after the loss: dL/d out
        self.by_inputs = [np.empty_like(a) for a in self.inputs[1:]]
        self.active = [np.empty(h.shape, np.bool_) for h in self.hidden]
        self.zeros = [np.zeros_like(h) for h in self.hidden]  # NumPy takes the maximum with 0 itself three times slower
        self.transposed = [(w.T, a.T) for w, a in zip(weights, self.inputs, strict=True)]

    def forward(self) -> np.ndarray:
        for w, a, h, zeros in zip(self.weights, self.inputs, self.hidden, self.zeros, strict=False):  # all but the last
            np.dot(w, a, out=h)
            np.maximum(h, zeros, out=h)
        return np.dot(self.weights[-1], self.inputs[-1], out=self.out)

    def backward(self, gradients: list[np.ndarray]) -> None:
        """Fill gradients. The gradient of the first layer's input is not computed: nothing needs it."""
        g = self.out
        for layer in range(len(self.weights) - 1, -1, -1):
            w_t, a_t = self.transposed[layer]
            np.dot(g, a_t, out=gradients[layer])
            if layer:
                by_input, active = self.by_inputs[layer - 1], self.active[layer - 1]
                np.dot(w_t, g, out=by_input)
                g = by_input[:-1]
                np.greater(self.hidden[layer - 1], 0, out=active)
                np.multiply(g, active, out=g)


def cross_entropy(logits: np.ndarray, classes: np.ndarray) -> Callable[[], float]:
    """Return a function: the mean of -log softmax(logits)[class], which turns logits (C, N) into their gradient.

    L = mean(log(sum exp(z - max)) - (z_class - max)).  dL/dz = (softmax(z) - one_hot(class)) / N.
    """
    count = logits.shape[1]
    row, picked = np.empty(count, np.float32), np.empty(count, np.float32)
    positions = classes * count + np.arange(count)  # of the right class in the flat logits
    flat = logits.reshape(-1)

    def criterion() -> float:
        np.maximum.reduce(logits, axis=0, out=row)
        np.subtract(logits, row, out=logits)
        flat.take(positions, out=picked, mode="wrap")  # "raise", the default, would go through a buffer
        right = np.add.reduce(picked)
        np.exp(logits, out=logits)
        np.add.reduce(logits, axis=0, out=row)
        np.log(row, out=picked)
        loss = (np.add.reduce(picked) - right) / count
        np.multiply(row, count, out=row)
        np.divide(logits, row, out=logits)
        flat[positions] -= np.float32(1 / count)
        return loss

    return criterion


def mean_squared_error(out: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """Return a function that computes mean((out - y)^2) and turns out into its gradient, 2 (out - y) / n."""
    y = np.ascontiguousarray(y)
    difference, factor = out.reshape(-1), np.float32(2 / out.size)

    def criterion() -> float:
        np.subtract(out, y, out=out)
        loss = difference.dot(difference) / out.size
        np.multiply(out, factor, out=out)
        return loss

    return criterion


def sgd(p: np.ndarray, g: np.ndarray, lr: float) -> Callable[[], None]:
    """Return a function that moves p by -lr g. It overwrites g."""
    rate = np.float32(lr)

    def update() -> None:
        np.multiply(g, rate, out=g)
        np.subtract(p, g, out=p)

    return update


def adam(p: np.ndarray, g: np.ndarray, lr: float, decay: float = 0.0) -> Callable[[], None]:
    """Return a function that moves p by a step of Adam, or of AdamW if there is decay. It overwrites g.

    Adam keeps m = b1 m + (1 - b1) g and v = b2 v + (1 - b2) g^2 and steps by lr (m / c1) / (sqrt(v / c2) + eps), with
    c = 1 - b^t. Here M = m / (1 - b1) and V = v / (1 - b2) are kept instead, which saves an operation each: with
    s = sqrt((1 - b2) / c2), the step is (lr (1 - b1) / (c1 s)) M / (sqrt(V) + eps / s).
    """
    b1, b2, eps = 0.9, 0.999, 1e-8
    m, v, t = np.zeros_like(p), np.zeros_like(p), 0

    def update() -> None:
        nonlocal t
        t += 1
        np.multiply(m, b1, out=m)
        np.add(m, g, out=m)
        np.multiply(g, g, out=g)
        np.multiply(v, b2, out=v)
        np.add(v, g, out=v)
        s = math.sqrt((1 - b2) / (1 - b2**t))
        np.sqrt(v, out=g)
        np.add(g, eps / s, out=g)
        np.divide(m, g, out=g)
        np.multiply(g, lr * (1 - b1) / ((1 - b1**t) * s), out=g)
        if decay:
            np.multiply(p, 1 - lr * decay, out=p)
        np.subtract(p, g, out=p)

    return update


def adamw(p: np.ndarray, g: np.ndarray, lr: float) -> Callable[[], None]:
    return adam(p, g, lr, decay=0.01)


OPTIMIZERS = {"SGD": sgd, "Adam": adam, "AdamW": adamw}
