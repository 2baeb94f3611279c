"""The repr of a model is torch's, character by character."""

from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import Module, Parameter, ParameterList

LAYERS = [
    lambda nn: nn.Linear(784, 128),
    lambda nn: nn.Linear(2, 3, bias=False),
    lambda nn: nn.Embedding(10, 3),
    lambda nn: nn.Embedding(10, 3, padding_idx=-1),
    lambda nn: nn.Dropout(0.1),
    lambda nn: nn.LayerNorm(4),
    lambda nn: nn.LayerNorm((3, 4)),
    lambda nn: nn.LayerNorm((4,), eps=1e-6, bias=False),
    lambda nn: nn.LayerNorm(4, elementwise_affine=False),
    lambda nn: nn.BatchNorm1d(3),
    lambda nn: nn.BatchNorm1d(3, momentum=None, affine=False, track_running_stats=False),
    lambda nn: nn.Flatten(),
    lambda nn: nn.Flatten(0, 2),
    lambda nn: nn.Identity(),
    lambda nn: nn.ReLU(),
    lambda nn: nn.GELU(),
    lambda nn: nn.GELU(approximate="tanh"),
    lambda nn: nn.Sigmoid(),
    lambda nn: nn.Tanh(),
    lambda nn: nn.Softmax(dim=-1),
    lambda nn: nn.MSELoss(),
    lambda nn: nn.CrossEntropyLoss(),
    lambda nn: nn.BCEWithLogitsLoss(),
    lambda nn: nn.Sequential(),
    lambda nn: nn.ModuleList(),
    lambda nn: nn.ModuleDict(),
    lambda nn: nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU(), nn.Dropout()), nn.Identity()),
    lambda nn: nn.ModuleList([nn.Linear(2, 2) for _ in range(3)] + [nn.ReLU()] + [nn.Tanh(), nn.Tanh()]),
    lambda nn: nn.ModuleList([nn.Sequential(nn.Linear(1, 1), nn.ReLU()) for _ in range(2)]),
    lambda nn: nn.ModuleDict({"a": nn.ModuleList([nn.ReLU()]), "b": nn.Sequential(nn.ModuleDict({"c": nn.Tanh()}))}),
]


@pytest.mark.torch
@pytest.mark.parametrize("make", LAYERS)
def test_the_repr_of_a_module_is_exactly_torchs(make):
    from torch import nn

    assert repr(make(core)) == repr(make(nn))


@pytest.mark.torch
def test_the_repr_of_a_parameter_list_is_torchs_except_for_the_dtype_name():
    import torch

    def show(nn: Any, ones: Any) -> str:
        weights = nn.ParameterList([nn.Parameter(ones((2, 3))), nn.Parameter(ones(4))])
        return repr(nn.Sequential(weights, nn.ParameterList()))

    ours = show(core, lambda shape: np.ones(shape, np.float32))
    assert ours == show(torch.nn, torch.ones).replace("torch.float32", "float32")


@pytest.mark.torch
@pytest.mark.parametrize("text", ["", "width=3", "width=3\ndepth=2"])
@pytest.mark.parametrize("children", [0, 1])
def test_the_extra_repr_of_a_custom_module_is_shown_as_in_torch(text, children):
    from torch import nn

    def show(library: Any) -> str:
        class Net(library.Module):
            def __init__(self) -> None:
                super().__init__()
                for child in range(children):
                    setattr(self, f"part{child}", library.ReLU())
                self.nothing = None
                self.add_module("empty", None) if children else None

            def extra_repr(self) -> str:
                return text

        return repr(Net())

    assert show(core) == show(nn)


def test_the_reprs_of_a_parameter_and_a_list_show_values_and_sizes():
    assert repr(Parameter([1.0])) == "Parameter containing:\ntensor([1.], requires_grad=True)"
    assert "Parameter containing: [float64 of size 2x1]" in repr(ParameterList([Parameter(np.ones((2, 1)))]))
    assert repr(Module()) == "Module()"
