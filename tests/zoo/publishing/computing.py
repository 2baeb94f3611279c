"""Models that are functions, and what they compute, to be exported."""

from collections.abc import Callable
from typing import Any

import numpy as np

from statezoo import core
from statezoo.core import Module, Tensor
from statezoo.core import functional as F


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


class Computes(Module):
    """A model whose forward is a function."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


_GROUPED, _SQUARE, _EACH, _B = (Tensor(draw(*shape)) for shape in ((6, 2, 3), (6, 1, 3, 3), (6, 1, 3), (6,)))
IMAGE, ROWS, IDS = draw(4, 6, 5), draw(4, 6), np.arange(12).reshape(4, 3) % 7
OPERATIONS: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: -(x * 2 + 1) / (3 - x.abs()) - 1 / (x * x + 1),
    "powers and logs": lambda x: (x * x + 0.5) ** 1.5 + (x.abs() + 1).log() + (x.abs() + 0.1).sqrt() + x.exp(),
    "activations": lambda x: x.relu() + x.tanh() + x.sigmoid() + F.gelu(x) + F.gelu(x, "tanh"),
    "more activations": lambda x: (
        F.leaky_relu(x, 0.2) + F.elu(x, 0.7) + F.celu(x, 2) + F.selu(x) + F.silu(x) + F.mish(x)
    ),
    "soft activations": lambda x: F.softplus(x) + F.softplus(x, 2) + F.softsign(x) + F.tanhshrink(x) + F.logsigmoid(x),
    "hard activations": lambda x: F.hardtanh(x, -1, 2) + F.relu6(x) + F.hardswish(x) + F.hardsigmoid(x),
    "shrunk": lambda x: F.hardshrink(x, 0.3) + F.softshrink(x, 0.2),
    "clamped": lambda x: x.clamp(-0.5, 0.5) + x.clamp(min=0) + x.clamp(max=0.1),
    "compared": lambda x: ((x > 0) & (x <= 1)).float() + ((x < -1) | ~(x >= 0)).float() + (x == 0) + (x != 1).float(),
    "filled": lambda x: x.masked_fill(x > 0.5, -1.0),
    "softmax": lambda x: F.softmax(x, dim=1) + F.log_softmax(x, dim=-1),
    "sums": lambda x: x.sum(1, keepdim=True) + x.mean(-1, keepdim=True) * x.sum((1, 2), keepdim=True),
    "variances": lambda x: x.var(-1) + x.std((1, 2), correction=0, keepdim=True).squeeze(-1) + x.var(1).sum(-1, True),
    "extremes": lambda x: x.max(dim=1).values + x.min(dim=1).values + x.argmax(1).float() + x.argmin(1).float(),
    "reshaped": lambda x: x.reshape(-1, 30).reshape(x.shape[0], 5, 6).flatten(1).unsqueeze(1).squeeze(1),
    "merged with the batch": lambda x: x.reshape(-1, 5).reshape(-1, 6, 5),
    "moved": lambda x: x.transpose(1, 2).permute(0, 2, 1).T.permute(2, 1, 0),
    "joined": lambda x: F.softmax(core.cat([x, x * 2], 1), 1) + core.cat([core.stack([x, -x], 2)[:, :, 0], x], -2),
    "expanded": lambda x: x[:, :1].expand(-1, 6, -1) + x.mean(1, keepdim=True).expand(x.shape),
    "sliced": lambda x: x[:, 1:5:2] + x[:, -2:, :] + x[..., ::1][:, ::-1][:, :2] + x[:, None, 0],
    "filled with NaN": lambda x: x.masked_fill(x > 0.5, float("nan")),
    "sums of booleans": lambda x: (x > 0).sum(1),
    "attention over the batch": lambda x: attention(x.transpose(0, 1)).transpose(0, 1),
    "picked": lambda x: x[:, -1] + x[:, 2, :] + x[:, :, np.array([4, 3, 2, 1, 0])][:, 0],
    "products": lambda x: (x @ x.transpose(1, 2)) @ x + x @ np.eye(5, dtype=np.float32),
    "another dtype": lambda x: (x.double() * 2).float() + x.long().float(),
    "two outputs": lambda x: (x + 1, x.sum(1)),
    "in the middle": lambda x: x.clone().detach() * np.float32(2) + np.arange(5, dtype=np.float32),
    "convolutions": lambda x: (
        F.conv1d(x, _GROUPED, padding="same", groups=3)
        + F.conv2d(x[:, None], _SQUARE, _B, 1, (1, 1)).sum(1)
        + F.conv_transpose1d(F.conv1d(x, _EACH, _B, 2, 1, 1, 6), _EACH, None, 2, 1, 0, 6)
    ),
    "pools": lambda x: (
        F.max_pool1d(x, 2, ceil_mode=True)
        + F.avg_pool1d(x, 3, 2, 1, count_include_pad=False)
        + F.avg_pool1d(x, 3, 2, 1)
    ),
    "adaptive pools": lambda x: (
        F.adaptive_avg_pool2d(x[:, None], (3, 2)) + F.adaptive_max_pool2d(x[:, None, :, :4], (3, 2))
    ),
    "padded": lambda x: F.pad(x, (1, -1), value=2.0) + F.pad(x, (1, -1), "reflect") + F.pad(x, (2, -2), "replicate"),
    "resized": lambda x: (
        F.interpolate(x, scale_factor=2.0)
        + F.interpolate(x, 10, mode="linear")
        + F.interpolate(x[:, None], (6, 10), mode="bilinear", align_corners=True)[:, 0]
    ),
    "normalized": lambda x: (
        F.layer_norm(x, (6, 5))
        + F.group_norm(x, 3, _B[:6], _B[:6])
        + F.rms_norm(x, (5,), _B[:5])
        + F.rms_norm(x, (6, 5), eps=0.1)
        + F.instance_norm(x[:, None])[:, 0]
    ),
    "rows for the batch": lambda x: core.cat([Tensor(np.zeros((x.shape[0], 1, 5), np.float32)), x], 1),
}


def attention(x: Tensor, is_causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, is_causal=is_causal)
