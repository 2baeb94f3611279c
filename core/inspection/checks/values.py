"""Parameters and buffers that already hold NaN or infinity: the tree alone shows it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...autograd.tensor import Tensor
from ...nn.layers.normalization import BatchNorm1d
from ...nn.module.parameter import Parameter
from ..examination.arguments import CheckArguments
from ..examination.report import Finding, in_code


def check(given: CheckArguments) -> Iterator[Finding]:
    """Yield tensors of the model from which only NaN can come.

    Infinity is one where something is learned or averaged; elsewhere it may be meant, as in a buffer that masks.
    """
    model = given.model
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, Parameter) and tensor.base is not None:
            continue  # what a view holds is said of its base
        learned = tensor.requires_grad or isinstance(model.get_submodule(name.rpartition(".")[0]), BatchNorm1d)
        wrong = ~np.isfinite(tensor.data) if learned else np.isnan(tensor.data)
        if wrong.any():
            what = "NaN or infinite" if learned else "NaN"
            count = f"{np.count_nonzero(wrong)} of its {tensor.numel()} elements"
            seen = f"{count} are {what}, and so is all that depends on it"
            yield Finding("value", name, seen, _mend(given, name, tensor))


def _mend(given: CheckArguments, name: str, tensor: Tensor) -> str:
    path, _, last = name.rpartition(".")
    if isinstance(tensor, Parameter) and hasattr(given.model.get_submodule(path), "reset_parameters"):
        line = f"{in_code(path)}.reset_parameters()"
    else:
        line = f"{in_code(name)}.data[...] = {int(last in ('weight', 'running_var'))}"  # as a normalisation starts
    return f"{line}; or model.load_state_dict(...) of a checkpoint from before"
