"""Each traced operation as an expression in PyTorch.

A function here gets the expressions of the operands and of the arguments that are arrays, and the step itself. The
names and the meaning of the operations are PyTorch's, as core has them from there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ExportError
from ..onnx.steps import Step
from .spatial import TABLE as SPATIAL

# Takes the expressions of the operands, the arguments with expressions for arrays, and the step.
Expression = Callable[[Sequence[str], Mapping[str, Any], Step], str]


def _infix(sign: str) -> Expression:
    return lambda x, given, step: f"{x[0]} {sign} {x[1]}"


def _function(name: str, *keywords: str) -> Expression:
    """Return a call with the operands, and with the arguments of these names: "theirs" or "theirs=ours"."""

    def expression(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
        named = [keyword.partition("=")[::2] for keyword in keywords]
        return f"{name}({', '.join([*x, *(f'{theirs}={given[ours or theirs]}' for theirs, ours in named)])})"

    return expression


def _gelu(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    approximate = "" if given["approximate"] == "none" else f", approximate={given['approximate']!r}"
    return f"F.gelu({x[0]}{approximate})"


def _layer_norm(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    return f"F.layer_norm({x[0]}, {given['normalized_shape']}, {given['weight']}, {given['bias']}, {given['eps']})"


def _batch_norm(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    if given["training"]:
        raise ExportError("batch_norm with the statistics of the batch cannot be exported. Keep running statistics.")
    statistics = ", ".join(str(given[key]) for key in ("running_mean", "running_var", "weight", "bias"))
    return f"F.batch_norm({x[0]}, {statistics}, eps={given['eps']})"


def _attention(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    if given["dropout_p"]:
        raise ExportError(f"{step.name} with dropout in eval mode draws random numbers, which cannot be exported.")
    options = [] if given["attn_mask"] is None else [f"attn_mask={given['attn_mask']}"]
    options += ["is_causal=True"] if given["is_causal"] else []
    options += [] if given.get("scale") is None else [f"scale={given['scale']}"]
    return f"F.scaled_dot_product_attention({', '.join([*x[:3], *options])})"


def _packed_attention(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    heads, features = given["num_heads"], step.operands[0][0].shape[-1]
    # (B, T, 3 heads d) -> q, k and v of (B, heads, T, d)
    parts = f"*{x[0]}.unflatten(-1, (3, {heads}, {features // (3 * heads)})).permute(2, 0, 3, 1, 4)"
    return f"{_attention([parts], given, step)}.transpose(1, 2).flatten(2)"


def _reduction(name: str, *more: str) -> Expression:
    def expression(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
        options = [f"{key}={given[key]}" for key in (*more, "keepdim")]
        return f"torch.{name}({x[0]}, dim={tuple(map(int, given['axes']))}, {', '.join(options)})"

    return expression


def _index(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    parts, sizes = step.arguments["index"], step.operands[0][0].shape
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    texts, axis = [], 0
    for part, text in zip(parts, given["index"], strict=True):
        texts.append(_index_text(part, text, sizes[axis] if axis < len(sizes) else 0))
        axis += len(sizes) - taken if part is Ellipsis else part is not None
    return f"{x[0]}[{', '.join(texts)}]"


def _index_text(part: Any, text: Any, size: int) -> str:
    """Return a part of an index. size: that of the axis."""
    if part is Ellipsis:
        return "..."
    if not isinstance(part, slice):
        return str(text)
    if (part.step or 1) < 0:  # PyTorch has no such slices
        return "torch.arange({}, {}, {})".format(*part.indices(size))
    bounds = ["" if one is None else str(int(one)) for one in (part.start, part.stop)]
    return ":".join([*bounds, *([] if part.step in (None, 1) else [str(int(part.step))])])


def _recurrence(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    """Return the outputs and the last states in one tensor, as core has them."""
    states = 2 if step.name == "lstm" else 1
    weights, turned = x[1 + states :], ".flip(0)" if given["reverse"] else ""
    start = ", ".join(f"{h}[None]" for h in x[1 : 1 + states])
    options = f"[{', '.join(weights)}], {len(weights) == 4}, 1, 0.0, False, False, False"
    run = f"torch.{step.name}({x[0]}{turned}, {f'({start})' if states == 2 else start}, {options})"
    # In reverse the first tensor, the outputs, is turned back.
    return (
        f"torch.cat([part.flip(0) if i == 0 else part for i, part in enumerate({run})])"
        if turned
        else (f"torch.cat({run})")
    )


def _sized(name: str) -> Expression:
    """Return a call of a method with the sizes of the result."""
    return lambda x, given, step: f"{x[0]}.{name}({given['sizes']})"


def _joined(name: str) -> Expression:
    return lambda x, given, step: f"torch.{name}([{', '.join(x)}], dim={given['axis']})"


def _to(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
    return f"{x[0]}.to({dtype_text(step.out[0].dtype)})"


def number_text(value: Any) -> str:
    """Return a number as Python reads it, also as the operand of an operator."""
    text = repr(value) if not isinstance(value, float) or math.isfinite(value) else f'float("{value}")'
    return f"({text})" if text.startswith("-") else text


def dtype_text(dtype: np.dtype) -> str:
    """Return a dtype as PyTorch writes it."""
    return f"torch.{dtype.name}"


# The elementwise activations, with the names of their options.
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("hardsigmoid", "hardswish", "logsigmoid", "mish", "relu6", "selu", "silu", "softsign"), ()),
    "celu": ("alpha",),
    "elu": ("alpha",),
    "hardshrink": ("lambd",),
    "hardtanh": ("min_val", "max_val"),
    "leaky_relu": ("negative_slope",),
    "softplus": ("beta", "threshold"),
    "softshrink": ("lambd",),
    "tanhshrink": (),
}
TABLE: dict[str, Expression] = {
    **SPATIAL,
    **{name: _function(f"F.{name}", *options) for name, options in _ACTIVATIONS.items()},
    "abs": _function("torch.abs"),
    "add": _infix("+"),
    "argmax": _function("torch.argmax", "dim", "keepdim"),
    "argmin": _function("torch.argmin", "dim", "keepdim"),
    "batch_norm": _batch_norm,
    "bitwise_and": _infix("&"),
    "bitwise_or": _infix("|"),
    "cat": _joined("cat"),
    "clamp": _function("torch.clamp", "min=low", "max=high"),
    "clone": _function("torch.clone"),
    "divide": _infix("/"),
    "embedding": lambda x, given, step: f"F.embedding({given['ids']}, {x[0]})",
    "equal": _infix("=="),
    "exp": _function("torch.exp"),
    "expand": _sized("expand"),
    "gelu": _gelu,
    "getitem": _index,
    "greater": _infix(">"),
    "greater_equal": _infix(">="),
    "invert": _function("torch.bitwise_not"),
    "layer_norm": _layer_norm,
    "less": _infix("<"),
    "less_equal": _infix("<="),
    "linear": _function("F.linear"),
    "log": _function("torch.log"),
    "log_softmax": _function("F.log_softmax", "dim"),
    "masked_fill": lambda x, given, step: f"{x[0]}.masked_fill({given['mask']}, {number_text(given['value'])})",
    "matmul": _infix("@"),
    "max": _reduction("amax"),
    "mean": _reduction("mean"),
    "min": _reduction("amin"),
    "multiply": _infix("*"),
    "negative": lambda x, given, step: f"-{x[0]}",
    "not_equal": _infix("!="),
    "packed_attention": _packed_attention,
    "permute": lambda x, given, step: f"{x[0]}.permute({tuple(map(int, given['axes']))})",
    "power": _infix("**"),
    "relu": _function("F.relu"),
    "reshape": _sized("reshape"),
    "scaled_dot_product_attention": _attention,
    "sigmoid": _function("torch.sigmoid"),
    "softmax": _function("F.softmax", "dim"),
    "sqrt": _function("torch.sqrt"),
    "squeeze": _sized("reshape"),
    "stack": _joined("stack"),
    "std": _reduction("std", "correction"),
    "subtract": _infix("-"),
    "sum": _reduction("sum"),
    "tanh": _function("torch.tanh"),
    "to": _to,
    "transpose": lambda x, given, step: f"{x[0]}.transpose({', '.join(map(str, given['axes']))})",
    "unsqueeze": _sized("reshape"),
    "var": _reduction("var", "correction"),
    "where": lambda x, given, step: f"torch.where({given['condition']}, {x[0]}, {x[1]})",
}
TABLE |= dict.fromkeys(("gru", "lstm", "rnn_relu", "rnn_tanh"), _recurrence)
# The operations whose expressions have the sizes of their result, as the argument "sizes".
SIZED = ("expand", "reshape", "squeeze", "unsqueeze")
