"""The floor of the transformer: a language model of one block by hand, laid out as engines/in_numpy.py says.

N = B T positions of all sequences, one column each.  C: features.  h: heads.  d = C / h.  Every matrix is (rows, N).
Names: by_x is dL/dx. If by_x overwrites a value, that value is no longer needed.
"""

from __future__ import annotations

import math

import numpy as np
from engines.in_numpy import adamw, cross_entropy, flatten, step_of, with_ones
from engines.work import EMBED_DIM, HEADS, VOCABULARY, Task, Work

C, HIDDEN, D = EMBED_DIM, 4 * EMBED_DIM, EMBED_DIM // HEADS


def build(work: Work) -> Task:
    w = work.weights

    def with_bias(name: str, joint: str = ".") -> np.ndarray:
        return np.c_[w[f"{name}{joint}weight"], w[f"{name}{joint}bias"]]

    norms = [np.stack([w[f"{name}.weight"], w[f"{name}.bias"]]) for name in ("block.ln1", "block.ln2", "ln")]
    arrays = [
        w["token_embedding.weight"],
        w["position_embedding.weight"],
        *norms,
        with_bias("block.attention.in_proj", "_"),
        with_bias("block.attention.out_proj"),
        with_bias("block.mlp.fc1"),
        with_bias("block.mlp.fc2"),
    ]
    flat, weights = flatten(arrays)
    flat_gradient, gradients = flatten(arrays)
    model, alone = LanguageModel(weights, work.x), LanguageModel(weights, work.one)
    criterion = cross_entropy(model.logits, work.y.reshape(-1))
    update = adamw(flat, flat_gradient, work.lr)

    step = step_of(model, criterion, gradients, update)
    return Task(step, lambda: alone.forward().T.reshape(*work.one.shape, VOCABULARY))


class LanguageModel:
    """Embeddings, one block, a norm and the tied head, for the tokens (B, T)."""

    def __init__(self, weights: list[np.ndarray], tokens: np.ndarray) -> None:
        (self.batch, self.length), n = tokens.shape, tokens.size
        self.tokens, self.columns = tokens.reshape(-1), np.arange(n)
        self.token, self.position, ln1, ln2, ln, self.in_proj, self.out_proj, self.fc1, self.fc2 = weights
        self.one_hot = np.zeros((VOCABULARY, n), np.float32)
        self.ln1, self.ln2, self.ln = Norm(ln1, n), Norm(ln2, n), Norm(ln, n)
        self.attention = Attention(self.batch, self.length)
        self.gelu = Gelu(n)
        self.x, self.part = np.empty((C, n), np.float32), np.empty((C, n), np.float32)
        self.logits = np.empty((VOCABULARY, n), np.float32)  # after the loss: dL/d logits
        self.wide, self.wider = np.empty((C + 1, n), np.float32), np.empty((HIDDEN + 1, n), np.float32)

    def forward(self) -> np.ndarray:
        x, part = self.x, self.part
        np.take(self.token.T, self.tokens, axis=1, out=x, mode="clip")  # "raise" would go through a buffer
        by_position = x.reshape(C, self.batch, self.length)
        np.add(by_position, self.position[: self.length].T[:, None], out=by_position)
        np.dot(self.in_proj, self.ln1.forward(x), out=self.attention.qkv)
        np.dot(self.out_proj, self.attention.forward(), out=part)
        np.add(x, part, out=x)
        np.dot(self.fc1, self.ln2.forward(x), out=self.gelu.x)
        np.dot(self.fc2, self.gelu.forward(), out=part)
        np.add(x, part, out=x)
        return np.dot(self.token, self.ln.forward(x)[:-1], out=self.logits)

    def backward(self, gradients: list[np.ndarray]) -> None:
        """Fill gradients. by_x runs down the residual stream, and each part adds its share in place."""
        token, position, ln1, ln2, ln, in_proj, out_proj, fc1, fc2 = gradients
        by_x, part, wide = self.x, self.part, self.wide
        np.dot(self.logits, self.ln.out[:-1].T, out=token)  # the head's part of the tied embedding
        np.dot(self.token.T, self.logits, out=by_x)
        self.ln.backward(by_x, ln)

        np.dot(by_x, self.gelu.out.T, out=fc2)
        np.dot(self.fc2.T, by_x, out=self.wider)
        by_hidden = self.gelu.backward(self.wider[:-1])
        np.dot(by_hidden, self.ln2.out.T, out=fc1)
        np.dot(self.fc1.T, by_hidden, out=wide)
        np.add(by_x, self.ln2.backward(wide[:-1], ln2), out=by_x)

        np.dot(by_x, self.attention.out.T, out=out_proj)
        np.dot(self.out_proj.T, by_x, out=wide)
        by_qkv = self.attention.backward(wide[:-1])
        np.dot(by_qkv, self.ln1.out.T, out=in_proj)
        np.dot(self.in_proj.T, by_qkv, out=wide)
        np.add(by_x, self.ln1.backward(wide[:-1], ln1), out=by_x)

        position[self.length :] = 0
        np.add.reduce(by_x.reshape(C, self.batch, self.length), axis=1, out=part[:, : self.length])
        position[: self.length] = part[:, : self.length].T
        # A product sums the columns of the same token: np.add.at would add them one by one.
        self.one_hot.fill(0)
        self.one_hot[self.tokens, self.columns] = 1
        token += np.dot(self.one_hot, by_x.T)


class Norm:
    """LayerNorm: out = normal * weight + bias, normal = (x - mean) / std, over the features of each column.

    With G = dL/d out: dL/d weight and dL/d bias are the sums of G * normal and of G over the columns. With H = G *
    weight: dL/dx = (H - mean(H) - normal * mean(H * normal)) / std. Both means are products: weight @ G / C and
    weight @ (G * normal) / C, so that H * normal is never made.
    """

    def __init__(self, weight_bias: np.ndarray, n: int) -> None:
        self.weight, self.bias = weight_bias
        self.normal, self.scratch = np.empty((C, n), np.float32), np.empty((C, n), np.float32)
        self.out = with_ones(C, n)
        self.inverse_std = np.empty(n, np.float32)
        self.mean = np.full(C, 1 / C, np.float32)
        self.ones = np.ones(n, np.float32)

    def forward(self, x: np.ndarray) -> np.ndarray:
        normal, out, std = self.normal, self.out[:-1], self.inverse_std
        np.subtract(x, self.mean @ x, out=normal)
        np.multiply(normal, normal, out=self.scratch)
        np.dot(self.mean, self.scratch, out=std)
        np.add(std, 1e-5, out=std)
        np.sqrt(std, out=std)
        np.reciprocal(std, out=std)
        np.multiply(normal, std, out=normal)
        np.multiply(normal, self.weight[:, None], out=out)
        np.add(out, self.bias[:, None], out=out)
        return self.out

    def backward(self, g: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Fill the gradients of weight and bias, and return dL/dx in the memory of g = dL/d out."""
        scratch, share = self.scratch, self.weight / np.float32(C)
        np.multiply(g, self.normal, out=scratch)
        np.dot(scratch, self.ones, out=gradient[0])
        np.dot(g, self.ones, out=gradient[1])
        mean, along = share @ g, share @ scratch
        np.multiply(g, self.weight[:, None], out=g)
        np.subtract(g, mean, out=g)
        np.multiply(self.normal, along, out=scratch)
        np.subtract(g, scratch, out=g)
        return np.multiply(g, self.inverse_std, out=g)


class Attention:
    """Causal attention of every head, on views: q, k and v are (B, h, d, T) within qkv (3 C, N).

    P (B, h, S, T), with one column for each query position t, is the softmax of k^T q / sqrt(d) over s <= t, and
    mixed = v P.  With G = dL/d mixed: dL/dv = G P^T, dL/dP = v^T G, dL/d scores = P * (dL/dP - sum over s of P *
    dL/dP), where that sum is the sum over d of G * mixed; then dL/dq = k dL/d scores and dL/dk = q dL/d scores^T, the
    scale of q included.
    """

    def __init__(self, batch: int, length: int) -> None:
        n = batch * length
        self.by_head = (HEADS, D, batch, length)
        self.qkv, self.by_qkv = np.empty((3 * C, n), np.float32), np.empty((3 * C, n), np.float32)
        self.q, self.k, self.v = (self._heads(part) for part in np.split(self.qkv, 3))
        self.by_q, self.by_k, self.by_v = (self._heads(part) for part in np.split(self.by_qkv, 3))
        self.out = with_ones(C, n)
        self.mixed = self._heads(self.out[:-1])
        self.p, self.by_p = (np.empty((batch, HEADS, length, length), np.float32) for _ in range(2))
        self.row = np.empty((batch, HEADS, 1, length), np.float32)
        self.mask = np.where(np.tri(length, dtype=np.bool_).T, np.float32(0), np.float32(-np.inf))
        self.scale = np.float32(1 / math.sqrt(D))

    def _heads(self, part: np.ndarray) -> np.ndarray:
        return part.reshape(self.by_head).transpose(2, 0, 1, 3)  # (C, N) -> (B, h, d, T), a view

    def forward(self) -> np.ndarray:
        p, row, q = self.p, self.row, self.qkv[:C]
        np.multiply(q, self.scale, out=q)
        np.matmul(self.k.swapaxes(-1, -2), self.q, out=p)
        np.add(p, self.mask, out=p)
        np.maximum.reduce(p, axis=-2, keepdims=True, out=row)
        np.subtract(p, row, out=p)
        np.exp(p, out=p)
        np.add.reduce(p, axis=-2, keepdims=True, out=row)
        np.divide(p, row, out=p)
        np.matmul(self.v, p, out=self.mixed)
        return self.out

    def backward(self, g: np.ndarray) -> np.ndarray:
        """Return dL/d qkv (3 C, N) for g = dL/d mixed (C, N), which it overwrites."""
        by_mixed, by_p = self._heads(g), self.by_p
        np.matmul(by_mixed, self.p.swapaxes(-1, -2), out=self.by_v)
        np.matmul(self.v.swapaxes(-1, -2), by_mixed, out=by_p)
        np.multiply(g, self.out[:-1], out=g)
        np.add.reduce(by_mixed, axis=-2, keepdims=True, out=self.row)
        np.subtract(by_p, self.row, out=by_p)
        np.multiply(by_p, self.p, out=by_p)
        np.matmul(self.k, by_p, out=self.by_q)
        np.matmul(self.q, by_p.swapaxes(-1, -2), out=self.by_k)
        by_q = self.by_qkv[:C]
        np.multiply(by_q, self.scale, out=by_q)
        return self.by_qkv


class Gelu:
    """out = x Phi(x), Phi the normal distribution function.

    With a = |x|, e = exp(-a^2 / 2) and t = 1 / (1 + 0.3275911 a / sqrt(2)), tail = 1 - Phi(a) = (a1 t + ... + a5 t^5)
    e / 2, right to 1.5e-7 / 2, the rounding of float32 (Abramowitz and Stegun 1964, 7.1.26). Then out = max(x, 0) - a
    tail, and max(x, 0) = (x + a) / 2.  The derivative, Phi(x) + x e / sqrt(2 pi), is made on the way, as it shares e:
    1/2 and with the sign of x what it is beyond that for a, 1/2 - tail + a e / sqrt(2 pi).
    """

    COEFFICIENTS = tuple(0.5 * a for a in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592))

    def __init__(self, n: int) -> None:
        self.x, self.slope, *self.scratch = (np.empty((HIDDEN, n), np.float32) for _ in range(5))
        self.out = with_ones(HIDDEN, n)

    def forward(self) -> np.ndarray:
        x, slope, out = self.x, self.slope, self.out[:-1]
        a, t, tail = self.scratch
        np.abs(x, out=a)
        np.multiply(x, x, out=slope)
        np.multiply(slope, -0.5, out=slope)
        np.exp(slope, out=slope)
        np.multiply(a, 0.3275911 / math.sqrt(2), out=t)
        np.add(t, 1, out=t)
        np.reciprocal(t, out=t)
        np.multiply(t, self.COEFFICIENTS[0], out=tail)
        for coefficient in self.COEFFICIENTS[1:]:
            np.add(tail, coefficient, out=tail)
            np.multiply(tail, t, out=tail)
        np.multiply(tail, slope, out=tail)
        np.multiply(slope, 1 / math.sqrt(2 * math.pi), out=slope)
        np.multiply(slope, a, out=slope)
        np.subtract(slope, tail, out=slope)
        np.add(slope, 0.5, out=slope)
        np.copysign(slope, x, out=slope)
        np.add(slope, 0.5, out=slope)
        np.multiply(tail, a, out=tail)
        np.add(x, a, out=out)
        np.multiply(out, 0.5, out=out)
        np.subtract(out, tail, out=out)
        return self.out

    def backward(self, g: np.ndarray) -> np.ndarray:
        """Return dL/dx in the memory of x, for g = dL/d out."""
        return np.multiply(g, self.slope, out=self.x)
