"""Parameters and buffers that already hold NaN or infinity; no run is needed to see it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...autograd.tensor import Tensor
from ...nn.layers.normalization import BatchNorm1d
from ...nn.module.parameter import Parameter
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield tensors of the model that can only produce NaN.

    Infinity counts in a parameter or a running average. Elsewhere it may be intended, as in a buffer that is a mask.
    """
    model = given.model
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, Parameter) and tensor.base is not None:
            continue  # reported for its base
        learned = tensor.requires_grad or isinstance(model.get_submodule(name.rpartition(".")[0]), BatchNorm1d)
        wrong = ~np.isfinite(tensor._data) if learned else np.isnan(tensor._data)
        if wrong.any():
            what = "NaN or infinite" if learned else "NaN"
            count = f"{np.count_nonzero(wrong)} of its {tensor.numel()} elements"
            seen = f"{count} are {what}, and so is everything that depends on it"
            yield Finding("value", name, seen, _fix(given, name, tensor))


def _fix(given: CheckArguments, name: str, tensor: Tensor) -> str:
    path, _, last = name.rpartition(".")
    if isinstance(tensor, Parameter) and hasattr(given.model.get_submodule(path), "reset_parameters"):
        line = f"{in_code(path)}.reset_parameters()"
    else:
        start = int(last in ("weight", "running_var"))  # the initial values of a normalization layer
        line = f"{in_code(name)}.data[...] = {start}"
    return f"{line}; or model.load_state_dict(...) of an earlier checkpoint"
