"""Sequential, ModuleList, ModuleDict and ParameterList."""

import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import (
    Linear,
    Module,
    ModuleDict,
    ModuleList,
    Parameter,
    ParameterList,
    RegistrationError,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    Tensor,
)


def kinds(container: Any) -> list[str]:
    return [f"{name}: {type(member).__name__}" for name, member in container.named_children()]


def parameters(*values: float) -> list[Parameter]:
    return [Parameter([float(value)]) for value in values]


def test_a_sequential_runs_its_modules_in_order():
    linear = Linear(2, 1)
    x = np.array([[1.0, -2.0]], np.float32)
    np.testing.assert_array_equal(Sequential(linear, Sigmoid())(x).data, linear(x).sigmoid().data)
    assert Sequential()(3) == 3


def test_a_sequential_is_built_by_position_by_name_and_by_appending():
    assert kinds(Sequential(ReLU(), Tanh())) == ["0: ReLU", "1: Tanh"]
    assert kinds(Sequential(OrderedDict(a=ReLU(), b=Tanh()))) == ["a: ReLU", "b: Tanh"]
    assert kinds(Sequential(ReLU()).append(Tanh())) == ["0: ReLU", "1: Tanh"]


def test_a_slice_of_a_sequential_keeps_names_and_modules():
    model = Sequential(ReLU(), Tanh(), Sigmoid())
    part = model[1:]
    assert isinstance(part, Sequential)
    assert kinds(part) == ["1: Tanh", "2: Sigmoid"]
    assert part[0] is model[1]


def test_appending_to_a_slice_never_replaces_a_member():
    part = Sequential(ReLU(), Tanh(), Sigmoid())[1:]
    with pytest.raises(
        RegistrationError, match=r"already has a member '2', because it kept the names .* Sequential\(\*"
    ):
        part.append(Linear(1, 1))
    assert kinds(part) == ["1: Tanh", "2: Sigmoid"]


@pytest.mark.parametrize("container", [Sequential, ModuleList])
def test_members_are_indexed_replaced_and_deleted_by_position(container):
    model = Sequential(ReLU(), Tanh(), Sigmoid())
    if container is ModuleList:
        model = ModuleList([ReLU(), Tanh(), Sigmoid()])
    assert len(model) == 3
    assert [type(member) for member in model] == [ReLU, Tanh, Sigmoid]
    assert model[-1] is model[2]
    model[-1] = ReLU()
    assert kinds(model) == ["0: ReLU", "1: Tanh", "2: ReLU"]
    del model[0]
    assert kinds(model) == ["0: Tanh", "1: ReLU"]
    del model[:1]
    assert kinds(model) == ["0: ReLU"]
    for index in (1, -2):
        with pytest.raises(IndexError, match=rf"index {index} is out of range: {container.__name__} has 1 members"):
            model[index]


def test_a_sequential_can_hold_one_module_twice():
    relu = ReLU()
    assert len(Sequential(relu, relu)) == 2
    assert kinds(Sequential(relu, relu)) == ["0: ReLU"]


def test_a_module_list_grows_at_the_end_and_in_the_middle():
    layers = ModuleList([ReLU()]).append(Tanh()).extend([Sigmoid()])
    layers.insert(1, Linear(1, 1))
    assert kinds(layers) == ["0: ReLU", "1: Linear", "2: Tanh", "3: Sigmoid"]
    part = layers[2:]
    assert isinstance(part, ModuleList)
    assert kinds(part) == ["0: Tanh", "1: Sigmoid"]
    layers.extend(layers)
    assert len(layers) == 8


def test_a_refused_insertion_leaves_the_module_list_as_it_was():
    layers = ModuleList([ReLU(), Tanh()])
    with pytest.raises(RegistrationError, match="is a module: it takes a module or None, not int"):
        layers.insert(0, 3)  # pyright: ignore[reportArgumentType]
    assert kinds(layers) == ["0: ReLU", "1: Tanh"]


def test_a_module_dict_works_like_a_dict():
    layers = ModuleDict({"a": ReLU(), "b": Tanh()})
    layers["c"] = Sigmoid()
    layers.update({"a": Linear(1, 1)})
    assert kinds(layers) == ["a: Linear", "b: Tanh", "c: Sigmoid"]
    assert "b" in layers
    assert "z" not in layers
    assert list(layers) == list(layers.keys()) == ["a", "b", "c"]
    assert list(layers.values()) == list(layers.children())
    assert list(layers.items()) == list(layers.named_children())
    assert isinstance(layers.pop("b"), Tanh)
    del layers["c"]
    assert len(layers) == 1
    with pytest.raises(KeyError) as caught:
        layers["aa"]
    assert str(caught.value) == "ModuleDict has no module 'aa'. Did you mean 'a'?"


def test_a_key_that_is_a_method_of_module_dict_is_refused():
    with pytest.raises(RegistrationError, match="ModuleDict already has an attribute 'keys'"):
        ModuleDict({"keys": ReLU()})


def test_a_parameter_list_registers_its_parameters_by_position():
    weights = ParameterList(parameters(1, 2))
    weights.append(parameters(3)[0]).extend(parameters(4))
    assert [name for name, _ in weights.named_parameters()] == ["0", "1", "2", "3"]
    assert [weight.item() for weight in weights] == [1, 2, 3, 4]
    assert weights[-1].item() == 4
    weights[0] = parameters(9)[0]
    del weights[1]
    assert [weight.item() for weight in weights[:2]] == [9, 3]
    assert isinstance(weights[:2], ParameterList)
    assert list(weights.state_dict()) == ["0", "1", "2"]


def test_a_member_of_the_wrong_type_is_refused_by_name():
    with pytest.raises(RegistrationError, match=r"ModuleList\.0 is a module: it takes a module or None, not int"):
        ModuleList([3])
    with pytest.raises(RegistrationError, match=r"Sequential\.0 is a module: it takes a module or None, not type"):
        Sequential(ReLU)  # pyright: ignore[reportArgumentType]
    with pytest.raises(RegistrationError, match=r"ParameterList\.0 is a parameter: it takes .* not int"):
        ParameterList([3])
    with pytest.raises(RegistrationError, match="ParameterList takes an iterable of members, not a single Tensor"):
        ParameterList(Tensor([1.0]))


def test_a_tensor_becomes_a_parameter_of_a_parameter_list():
    tensors = [Tensor([1.0]), Tensor([2.0])]
    weights = ParameterList(tensors[:1])
    weights[0] = tensors[1]
    assert isinstance(weights[0], Parameter)
    assert np.shares_memory(weights[0].data, tensors[1].data)


@pytest.mark.torch
def test_names_after_edits_agree_with_torch():
    import torch

    def names(nn: Any, parameter: Any) -> list[list[str]]:
        model = nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.Linear(1, 1), c=nn.Tanh()))
        model.append(nn.Linear(1, 1))
        states = [list(model.state_dict()), list(model[1:3].state_dict()), [n for n, _ in model.named_children()]]
        del model[0]
        states.append([n for n, _ in model.named_children()])
        layers = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
        layers.insert(0, nn.Linear(1, 1))
        layers.append(nn.ModuleDict({"x": nn.Linear(1, 1), "y": nn.ParameterList([parameter])}))
        del layers[1]
        return [*states, list(layers.state_dict()), list(layers[1:].state_dict())]

    from statezoo import core

    assert names(core, Parameter([1.0])) == names(torch.nn, torch.nn.Parameter(torch.ones(1)))


def sizes(container: Any) -> Any:
    """Return a container as its names and sizes, and a module as its size. Each member has a different size."""
    if hasattr(container, "in_features"):
        return container.in_features
    if hasattr(container, "_modules"):
        members = container._modules.items()
        return type(container).__name__, [(name, getattr(module, "in_features", None)) for name, module in members]
    return container


INDICES = [
    0,
    2,
    -1,
    -3,
    3,
    -4,
    slice(0, 2),
    slice(None),
    slice(None, None, -1),
    slice(5, 9),
    slice(-2, None),
    True,
    "0",
]
OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    **{f"get {i}": lambda c, nn, new, i=i: c[i] for i in INDICES},
    **{f"set {i}": lambda c, nn, new, i=i: c.__setitem__(i, new) for i in INDICES},
    **{f"delete {i}": lambda c, nn, new, i=i: c.__delitem__(i) for i in INDICES},
    **{f"pop {i}": lambda c, nn, new, i=i: c.pop(i) for i in INDICES},
    **{f"insert {i}": lambda c, nn, new, i=i: c.insert(i, new) and None for i in (0, 1, 3)},
    "append": lambda c, nn, new: c.append(new),
    "append nothing": lambda c, nn, new: c.append(None),
    "extend": lambda c, nn, new: c.extend([new, new]),
    "extend by a generator": lambda c, nn, new: c.extend(module for module in [new]),
    "extend by one": lambda c, nn, new: c.extend(new),
    "extend by an int": lambda c, nn, new: c.extend(3),
    "+ of its kind": lambda c, nn, new: c + c,
    "+ list": lambda c, nn, new: c + [new],  # noqa: RUF005
    "+ Sequential": lambda c, nn, new: c + nn.Sequential(new),
    "+= of its kind": lambda c, nn, new: c.__iadd__(type(c)(*c) if isinstance(c, nn.Sequential) else type(c)(c)),
    "+= list": lambda c, nn, new: c.__iadd__([new]),
    "*": lambda c, nn, new: (c * 2, 3 * c),
    "* 0": lambda c, nn, new: c * 0,
    "* text": lambda c, nn, new: c * "a",
    "*= 3": lambda c, nn, new: operator.imul(c, 3),
    "*= 0": lambda c, nn, new: operator.imul(c, 0),
    "len": lambda c, nn, new: len(c),
    "in": lambda c, nn, new: (new in c, c[0] in c),
    "reversed": lambda c, nn, new: [m.in_features for m in reversed(c)],
    "list": lambda c, nn, new: [m.in_features for m in c],
    "dir": lambda c, nn, new: [name for name in dir(c) if name.isdigit()],
    "nothing": lambda c, nn, new: type(c)(),
}


def done(operate: Callable[[Any, Any, Any], Any], nn: Any, kind: str) -> Any:
    """Return the result of an operation and the container after it, or the builtin error that it raised."""
    members = [nn.Linear(size, 1) for size in (1, 2, 3)]
    container = nn.Sequential(*members) if kind == "Sequential" else nn.ModuleList(members)
    if kind == "named":
        container = nn.Sequential(OrderedDict(zip("abc", members, strict=True)))
    try:
        result = operate(container, nn, nn.Linear(9, 1))
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        return next(base for base in type(error).__mro__ if base.__module__ == "builtins")
    shown = [sizes(each) for each in result] if isinstance(result, tuple) else sizes(result)
    return shown, sizes(container)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["ModuleList", "Sequential", "named"])
@pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_container_behaves_like_torchs(operate: Any, kind: str):
    torch = pytest.importorskip("torch")
    from statezoo import core

    expected = done(operate, torch.nn, kind)
    if kind == "named" and expected is KeyError:
        pytest.skip("torch looks for members by number")
    assert done(operate, core, kind) == expected


@pytest.mark.parametrize("make", [ModuleList, lambda members: Sequential(*members)])
@pytest.mark.parametrize("index", [-4, -1, 0, 3, 4])
def test_an_insertion_counts_from_either_end_and_never_leaves_a_gap(make: Any, index: int):
    container, members = make([Linear(size, 1) for size in (1, 2, 3)]), [1, 2, 3]
    if abs(index) > 3:
        with pytest.raises(IndexError, match=f"index {index} is out of range: .* has 3 members"):
            container.insert(index, Linear(9, 1))
    else:
        members.insert(index, 9)
        container.insert(index, Linear(9, 1))
    assert [(name, m.in_features) for name, m in container.named_children()] == [
        (str(position), size) for position, size in enumerate(members)
    ]


def test_an_assignment_to_a_slice_is_refused_and_the_error_says_what_to_do():
    layers = ModuleList([ReLU(), Tanh(), Sigmoid()])
    with pytest.raises(TypeError) as caught:
        layers[0:2] = ReLU()  # pyright: ignore[reportArgumentType]
    assert str(caught.value) == (
        "ModuleList does not support assignment to a slice, as in PyTorch. Assign the members one by one, or build a "
        "new ModuleList."
    )
    assert kinds(layers) == ["0: ReLU", "1: Tanh", "2: Sigmoid"]


def test_a_module_dict_takes_pairs_and_can_be_cleared():
    layers = ModuleDict([("a", ReLU())])
    layers.update(ModuleDict({"b": Tanh()}))
    layers.update((("c", Sigmoid()),))
    assert list(layers) == ["a", "b", "c"]
    layers.clear()
    assert len(layers) == 0
    assert list(layers.children()) == []


class Tower(Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = ModuleList([Linear(2, 2) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_a_module_list_in_a_model_is_trained_and_saved():
    model = Tower()
    assert list(model.state_dict())[:2] == ["blocks.0.weight", "blocks.0.bias"]
    model(np.ones((1, 2), np.float32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    "change",
    [
        lambda layers, named: layers.extend([ReLU(), "no module"]),
        lambda layers, named: layers.insert(0, "no module"),
        lambda layers, named: named.update({"b": ReLU(), "c": "no module"}),
        lambda layers, named: named._modules.update({"b": ReLU(), "": ReLU()}),
    ],
)
def test_members_of_which_one_is_refused_change_nothing(change: Any):
    layers, named = ModuleList([Tanh()]), ModuleDict({"a": Tanh()})
    with pytest.raises(RegistrationError):
        change(layers, named)
    assert (repr(layers), repr(named)) == (repr(ModuleList([Tanh()])), repr(ModuleDict({"a": Tanh()})))
    assert (list(vars(layers)["_modules"]), list(vars(named)["_modules"])) == (["0"], ["a"])
