"""The work in JAX: the whole step is one compiled function that reuses the memory of the state it is given."""

from __future__ import annotations

from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
from engines.work import HEADS, HIDDEN, Task, Work

Weights = dict[str, Any]


def _linear(w: Weights, name: str, x: jax.Array) -> jax.Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _layer_norm(w: Weights, name: str, x: jax.Array) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    normal = centred * jax.lax.rsqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-5)
    return normal * w[f"{name}.weight"] + w[f"{name}.bias"]


def _tense(w: Weights, x: jax.Array) -> jax.Array:
    return _linear(w, "fc2", jax.nn.relu(_linear(w, "fc1", x)))


def _mlp(w: Weights, x: jax.Array) -> jax.Array:
    return _linear(w, "layers.4", jax.nn.relu(_linear(w, "layers.2", jax.nn.relu(_linear(w, "layers.0", x)))))


def _attention(w: Weights, x: jax.Array) -> jax.Array:
    batch, length, features = x.shape
    fused = x @ w["block.attention.in_proj_weight"].T + w["block.attention.in_proj_bias"]
    q, k, v = jnp.moveaxis(fused.reshape(batch, length, 3, HEADS, features // HEADS), 2, 0)
    mixed = jax.nn.dot_product_attention(q, k, v, is_causal=True)  # of (B, T, heads, d)
    return _linear(w, "block.attention.out_proj", mixed.reshape(x.shape))


def _transformer(w: Weights, tokens: jax.Array) -> jax.Array:
    x = w["token_embedding.weight"][tokens] + w["position_embedding.weight"][: tokens.shape[1]]
    x = x + _attention(w, _layer_norm(w, "block.ln1", x))
    hidden = jax.nn.gelu(_linear(w, "block.mlp.fc1", _layer_norm(w, "block.ln2", x)), approximate=False)
    x = x + _linear(w, "block.mlp.fc2", hidden)
    return _layer_norm(w, "ln", x) @ w["token_embedding.weight"].T


def _one_linear(w: Weights, x: jax.Array) -> jax.Array:
    return x @ w["weight"].T + w["bias"]


def _cnn(w: Weights, x: jax.Array) -> jax.Array:
    for name in ("conv1", "conv2"):
        x = jax.lax.conv(x, w[f"{name}.weight"], (1, 1), "VALID") + w[f"{name}.bias"][:, None, None]
        x = jax.lax.reduce_window(jax.nn.relu(x), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return _linear(w, "fc2", jax.nn.relu(_linear(w, "fc1", x.reshape(x.shape[0], -1))))


def _lstm(w: Weights, tokens: jax.Array) -> jax.Array:
    x = w["embedding.weight"][tokens] @ w["lstm.weight_ih_l0"].T + w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
    start = jnp.zeros((tokens.shape[0], HIDDEN))

    def advance(state: tuple[jax.Array, jax.Array], gates: jax.Array) -> tuple[Any, jax.Array]:
        h, c = state
        i, f, g, o = jnp.split(gates + h @ w["lstm.weight_hh_l0"].T, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    _, out = jax.lax.scan(advance, (start, start), x.swapaxes(0, 1))
    return _linear(w, "fc", out.swapaxes(0, 1))


def _gpt(w: Weights, tokens: jax.Array) -> jax.Array:
    x = w["wte.weight"][tokens] + w["wpe.weight"][: tokens.shape[1]]
    for block in ("blocks.0", "blocks.1"):
        heads = (*x.shape[:2], HEADS, x.shape[2] // HEADS)
        fused = _linear(w, f"{block}.qkv", _layer_norm(w, f"{block}.ln1", x))
        q, k, v = (part.reshape(heads) for part in jnp.split(fused, 3, axis=2))
        x = x + _linear(w, f"{block}.out", jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))
        hidden = jax.nn.gelu(_linear(w, f"{block}.fc1", _layer_norm(w, f"{block}.ln2", x)), approximate=False)
        x = x + _linear(w, f"{block}.fc2", hidden)
    return _layer_norm(w, "ln", x) @ w["wte.weight"].T


MODELS = {
    "tense": _tense,
    "mlp": _mlp,
    "transformer": _transformer,
    "linear": _one_linear,
    "cnn": _cnn,
    "lstm": _lstm,
    "gpt": _gpt,
}


def _cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, y[..., None], axis=-1).mean()


def _mse(out: jax.Array, y: jax.Array) -> jax.Array:
    return ((out - y) ** 2).mean()


def _adam(work: Work, p: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    decay = 0.01 if work.optimizer == "AdamW" else 0.0
    change = m / (1 - 0.9**t) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return p * (1 - work.lr * decay) - work.lr * change, m, v


def build(work: Work) -> Task:
    model = MODELS[work.name]
    criterion = _mse if work.loss == "mse" else _cross_entropy
    x, y, one = jnp.asarray(work.x), jnp.asarray(work.y), jnp.asarray(work.one)

    def train(w: Weights, m: Weights, v: Weights, t: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, ...]:
        t = t + 1
        loss, g = jax.value_and_grad(lambda w: criterion(model(w, x), y))(w)
        if work.optimizer == "SGD":
            return loss, ({name: w[name] - work.lr * g[name] for name in w}, m, v, t)
        new = {name: _adam(work, w[name], g[name], m[name], v[name], t) for name in w}
        w, m, v = ({name: parts[i] for name, parts in new.items()} for i in range(3))
        return loss, (w, m, v, t)

    def zeros() -> Weights:
        return {name: jnp.zeros(array.shape) for name, array in work.weights.items()}

    weights = {name: jnp.array(array) for name, array in work.weights.items()}
    state = (weights, *((zeros(), zeros()) if work.optimizer != "SGD" else ({}, {})), jnp.zeros(()))
    compiled = jax.jit(train, donate_argnums=(0, 1, 2, 3))
    predict = jax.jit(model)

    def step() -> jax.Array:
        nonlocal state
        loss, state = compiled(*state, x, y)
        jax.block_until_ready(state)
        return loss

    def infer() -> jax.Array:
        return predict(state[0], one).block_until_ready()

    return Task(step, infer)
