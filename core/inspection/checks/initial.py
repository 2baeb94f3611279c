"""Weights whose scale does not fit their fan-in, or whose units start alike.

A sum of fan_in terms keeps the scale of the inputs if the weights are about 1 / sqrt(fan_in) in size. Initializers use
a factor around 1: torch's Linear 0.6, Glorot's between 0.2 and 1.4, He's 1.4. Trained weights rarely exceed 4.
Source: Glorot and Bengio 2010, section 4.2; He et al. 2015, arXiv:1502.01852, section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...nn.layers.embedding import Embedding
from ...nn.module.parameter import Parameter
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code

_LOUD, _QUIET = 5.0, 0.02  # times 1 / sqrt(fan_in)
_IN_AXES = {"linear": 1, "matmul": 0, "conv1d": 1, "conv2d": 1, "conv3d": 1}
_FEWEST = 8  # with fewer inputs the data decides the size of a weight


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield weights of linear maps that are far too large, far too small, or equal in all units."""
    for name, weight, in_axis in _weights(given):
        values = weight._data.astype(np.float64)
        values = values if weight.ndim == 2 else values.reshape(len(values), -1)  # (out, in * kernel)
        fan_in = values.shape[in_axis]
        scale = float(np.sqrt(np.mean(values * values) * fan_in)) if weight._data.size else 1.0
        inputs_first = ', mode="fan_out"' if in_axis == 0 else ""  # init takes a weight for (out, in)
        fix = f"init.kaiming_uniform_({in_code(name)}, a=5 ** 0.5{inputs_first})"
        units = np.moveaxis(values, in_axis, 0)
        if units.shape[1] > 1 and units.any() and (units == units[:, :1]).all():
            seen = f"all {units.shape[1]} units start with the same weights: they get the same gradients and stay equal"
            yield Finding("initial scale", name, seen, fix)
        elif fan_in >= _FEWEST and (scale > _LOUD or 0 < scale < _QUIET):
            much = "far above" if scale > _LOUD else "far below"
            seen = f"its root mean square is {scale / fan_in**0.5:.3g}, {much} 1 / sqrt(fan_in) = {fan_in**-0.5:.3g}"
            yield Finding("initial scale", name, seen, fix)


def _weights(given: CheckArguments) -> Iterator[tuple[str, Parameter, int]]:
    """Yield (name, weight, input axis) of the linear maps: those of layers, and those used in a product."""
    embeddings = {id(m.weight) for m in given.model.modules() if isinstance(m, Embedding)}
    seen: set[int] = set(embeddings)
    for name, parameter in given.parameters.items():
        module = given.model.get_submodule(name.rpartition(".")[0])
        if parameter.ndim == 2 and hasattr(module, "in_features") and id(parameter) not in seen:
            seen.add(id(parameter))
            yield name, parameter, 1
    for node in given.run.nodes if given.run else []:
        weight = node.operands[1] if node.operation in _IN_AXES else None
        if isinstance(weight, Parameter) and weight.ndim > 1 and id(weight) not in seen and id(weight) in given.names:
            seen.add(id(weight))
            yield given.names[id(weight)], weight, _IN_AXES[node.operation]
