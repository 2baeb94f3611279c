"""ParameterDict, and the operators and methods of the other containers, as torch has them."""

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import Linear, ModuleDict, ModuleList, Parameter, ParameterDict, ParameterList, Sequential, Tensor


def three(nn: Any) -> dict[str, Any]:
    return {name: nn.Parameter(nn.tensor([float(at)])) for at, name in enumerate("cab")}


SCENARIOS: dict[str, Callable[[Any, Any], Any]] = {
    "a plain dict is sorted": lambda nn, p: list(nn.ParameterDict(p)),
    "an OrderedDict is not": lambda nn, p: list(nn.ParameterDict(OrderedDict(p))),
    "pairs are not": lambda nn, p: list(nn.ParameterDict(p.items())),
    "state": lambda nn, p: list(nn.Sequential(nn.ParameterDict(p)).state_dict()),
    "update": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.update({"z": p["a"], "x": p["b"]})),
    "update of another": lambda nn, p: changed(nn.ParameterDict(), lambda d: d.update(nn.ParameterDict(p.items()))),
    "set": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.__setitem__("t", nn.tensor([1.0]))),
    "delete": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.__delitem__("a")),
    "pop": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.pop("b")),
    "popitem": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.popitem()[0]),
    "get": lambda nn, p: (nn.ParameterDict(p).get("d") is None, nn.ParameterDict(p).get("d", 3)),
    "setdefault": lambda nn, p: changed(nn.ParameterDict(p), lambda d: (d.setdefault("a"), d.setdefault("e", p["a"]))),
    "clear": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.clear()),
    "copy": lambda nn, p: [v is p[k] for k, v in nn.ParameterDict(p).copy().items()],
    "or": lambda nn, p: list(nn.ParameterDict(p) | nn.ParameterDict({"a": p["b"], "q": p["a"]})),
    "ior": lambda nn, p: changed(nn.ParameterDict(p), lambda d: d.__ior__({"q": p["a"]})),
    "fromkeys": lambda nn, p: list(nn.ParameterDict().fromkeys(["x", "y"], p["a"])),
    "reversed": lambda nn, p: list(reversed(nn.ParameterDict(p))),
    "contains": lambda nn, p: ("a" in nn.ParameterDict(p), "z" in nn.ParameterDict(p), len(nn.ParameterDict(p))),
    "attribute": lambda nn, p: nn.ParameterDict(p).a is p["a"],
    "keys": lambda nn, p: (list(nn.ParameterDict(p).keys()), [v is not None for v in nn.ParameterDict(p).values()]),
    "a module dict keeps the order": lambda nn, p: list(nn.ModuleDict({"b": nn.ReLU(), "a": nn.Tanh()})),
    "a module dict reversed": lambda nn, p: list(reversed(list(nn.ModuleDict({"b": nn.ReLU(), "a": nn.Tanh()})))),
    "a module dict popped": lambda nn, p: changed(nn.ModuleDict({"b": nn.ReLU()}), lambda d: type(d.pop("b")).__name__),
    "dir of a Sequential": lambda nn, p: "0" in dir(nn.Sequential(nn.ReLU())),
    "dir of a ModuleDict": lambda nn, p: [
        name in dir(nn.ModuleDict({"x": nn.ReLU(), "1": nn.ReLU()})) for name in "x1"
    ],
    "dir of a Module": lambda nn, p: "weight" in dir(nn.Linear(1, 1)),
    "sequential": lambda nn, p: changed(nn.Sequential(nn.ReLU()) + nn.Sequential(nn.Tanh()), lambda s: s.append(s[0])),
    "repeated": lambda nn, p: len(2 * nn.Sequential(nn.ReLU(), nn.Tanh()) * 2),
    "lists": lambda nn, p: len(nn.ModuleList([nn.ReLU()]) + nn.ModuleList([nn.Tanh(), nn.ReLU()])),
}


def changed(container: Any, change: Callable[[Any], Any]) -> Any:
    """Return the names in a container after a change."""
    result = change(container)
    names = list(container.state_dict()) or [type(each).__name__ for each in container]
    return names, result if isinstance(result, str | None) else None


@pytest.mark.torch
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_container_does_what_torchs_does(scenario: str):
    import torch

    torch_nn = SimpleNamespace(**vars(torch.nn), tensor=torch.tensor)  # as `core` has both
    ours, theirs = (SCENARIOS[scenario](nn, three(nn)) for nn in (core, torch_nn))
    assert ours == theirs


def test_the_repr_of_a_parameter_dict_lists_its_parameters():
    made = ParameterDict({"a": Tensor(np.ones((2, 3), np.float32))})
    assert repr(made) == "ParameterDict(\n    (a): Parameter containing: [float32 of size 2x3]\n)"


def test_a_parameter_dict_registers_and_refuses():
    made = ParameterDict({"a": Tensor([1.0])})
    assert isinstance(made["a"], Parameter)
    with pytest.raises(KeyError, match="ParameterDict has no parameter 'b'"):
        made["b"]
    with pytest.raises(KeyError, match="ParameterDict has no parameter 'b'"):
        del made["b"]
    with pytest.raises(TypeError, match="is a parameter: it takes a parameter or None, not int"):
        made["b"] = 3
    with pytest.raises(KeyError, match="already has an attribute 'items'"):
        made["items"] = Tensor([1.0])
    assert list(made) == ["a"]


def test_a_parameter_dict_is_copied_and_pickled():
    made = Sequential(ParameterDict({"a": Tensor([1.0]), "b": Tensor([2.0])}))
    for twin in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert list(twin.state_dict()) == ["0.a", "0.b"]
        assert twin[0]["b"] is twin[0].b


def test_members_that_are_registered_by_methods_of_the_user_are_registered_by_them():
    class Noting(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.noted: tuple[str, ...] = ()
            self.b = core.Buffer(np.ones(1))
            self.w = Parameter(np.ones(1))
            self.plain = 1
            self.plain = Parameter(np.ones(1))

        def register_buffer(self, name: str, tensor: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            self.noted += (name,)
            super().register_buffer(name, tensor)

        def register_parameter(self, name: str, param: Any) -> None:
            self.noted += (name,)
            super().register_parameter(name, param)

    made = Noting()
    assert made.noted == ("b", "w", "plain")
    assert list(made.state_dict()) == ["w", "plain", "b"]
    with pytest.raises(TypeError):
        made.c = core.Buffer(np.ones(1), persistent=False)  # the method does not take it


def test_lists_and_dicts_of_modules_and_parameters_take_part_in_a_model():
    made = Sequential(ModuleList([Linear(1, 1)]), ModuleDict({"x": Linear(1, 1)}), ParameterList([Tensor([1.0])]))
    assert list(made.state_dict()) == ["0.0.weight", "0.0.bias", "1.x.weight", "1.x.bias", "2.0"]
