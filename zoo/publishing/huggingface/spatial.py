"""The operations of signals and images, and the normalizations beside batch norm, as expressions in PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..onnx.steps import Step

Expression = Callable[[Sequence[str], Mapping[str, Any], Step], str]


def _with(*names: str) -> Expression:
    """Return a call of the function of the same name with these arguments. Those of a norm are tensors, or None."""

    def expression(x: Sequence[str], given: Mapping[str, Any], step: Step) -> str:
        operands = x[:1] if "weight" in names else x
        options = [f"{name}={given[name] if name in ('weight', 'bias') else repr(given[name])}" for name in names]
        return f"F.{step.name}({', '.join([*operands, *options])})"

    return expression


_CONV = _with("stride", "padding", "dilation", "groups")
_TRANSPOSED = _with("stride", "padding", "output_padding", "groups", "dilation")
_MAX = _with("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_ADAPTIVE = _with("output_size")
_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")

TABLE: dict[str, Expression] = {
    **{f"conv{dims}d": _CONV for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _TRANSPOSED for dims in (1, 2, 3)},
    **{f"max_pool{dims}d": _MAX for dims in (1, 2, 3)},
    **{f"avg_pool{dims}d": _with(*_AVG, *(["divisor_override"] if dims > 1 else [])) for dims in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{dims}d": _ADAPTIVE for kind in ("avg", "max") for dims in (1, 2, 3)},
    "fold": _with("output_size", "kernel_size", "dilation", "padding", "stride"),
    "group_norm": _with("num_groups", "weight", "bias", "eps"),
    "interpolate": _with("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor"),
    "pad": _with("pad", "mode", "value"),
    "rms_norm": _with("normalized_shape", "weight", "eps"),
    "unfold": _with("kernel_size", "dilation", "padding", "stride"),
}
