"""Registration by assignment, deletion and by name, with torch.nn.Module as the oracle."""

import copy
import pickle
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo.core import (
    BatchNorm1d,
    Buffer,
    Linear,
    Module,
    ModuleError,
    Parameter,
    RegistrationError,
    Sequential,
    Tensor,
)
from statezoo.core.nn.module.registration import NameRefusedError

NAMES = ["a", "b", "c"]


class Ours:
    """The operations in statezoo."""

    class Empty(Module):
        pass

    def parameter(self) -> Any:
        return Parameter(np.zeros(2, np.float32))

    def buffer(self, persistent: bool) -> Any:
        return Buffer(np.zeros(2, np.float32), persistent)

    def array(self) -> Any:
        return Tensor(np.zeros(2, np.float32))


class Theirs:
    """The same operations in torch."""

    def __init__(self) -> None:
        from torch import nn

        class Empty(nn.Module):
            pass

        self.Empty = Empty

    def parameter(self) -> Any:
        from torch import nn, zeros

        return nn.Parameter(zeros(2))

    def buffer(self, persistent: bool) -> Any:
        from torch import nn, zeros

        return nn.Buffer(zeros(2), persistent=persistent)

    def array(self) -> Any:
        from torch import zeros

        return zeros(2)


def value(side: Any, kind: str) -> Any:
    made = {
        "parameter": side.parameter,
        "buffer": lambda: side.buffer(True),
        "non-persistent": lambda: side.buffer(False),
        "array": side.array,
        "module": side.Empty,
        "none": lambda: None,
        "plain": lambda: 7,
    }
    return made[kind]()


KINDS = ["parameter", "buffer", "non-persistent", "array", "module", "none", "plain"]


def perform(side: Any, module: Any, operation: tuple[str, str, str]) -> bool:
    """Perform an operation. Return True if it succeeded, False if it was refused."""
    how, name, kind = operation
    try:
        if how == "assign":
            setattr(module, name, value(side, kind))
        elif how == "delete":
            delattr(module, name)
        elif how == "buffer non-persistent":
            module.register_buffer(name, value(side, kind), persistent=False)
        else:
            getattr(module, how)(name, value(side, kind))
    except (AttributeError, KeyError, TypeError):
        return False
    return True


def picture(module: Any) -> dict[str, Any]:
    """Return the names of everything that is registered, as each method lists them."""
    return {
        "parameters": [name for name, _ in module.named_parameters()],
        "buffers": [name for name, _ in module.named_buffers()],
        "modules": [name for name, _ in module.named_modules()],
        "children": [name for name, _ in module.named_children()],
        "state": list(module.state_dict()),
        "slots": [list(module._parameters), list(module._buffers), list(module._modules)],
        "attributes": {name: hasattr(module, name) and getattr(module, name) is not None for name in NAMES},
    }


@pytest.mark.torch
@pytest.mark.parametrize("seed", range(150))
def test_any_sequence_of_assignments_and_deletions_agrees_with_torch(seed):
    pick = random.Random(seed)
    hows = ["assign"] * 6 + ["delete"] * 2
    hows += ["register_parameter", "register_buffer", "buffer non-persistent", "add_module", "register_module"]
    ours, torchs = Ours(), Theirs()
    here, there = ours.Empty(), torchs.Empty()
    here.child, there.child = ours.Empty(), torchs.Empty()
    for step in range(25):
        operation = (pick.choice(hows), pick.choice(NAMES), pick.choice(KINDS))
        below = pick.random() < 0.3
        done = perform(ours, here.child if below else here, operation)
        expected = perform(torchs, there.child if below else there, operation)
        assert (step, operation, done) == (step, operation, expected)
        assert picture(here) == picture(there), (step, operation)


class Net(Module):
    limit = 3

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = Linear(2, 3)
        self.fc2 = Linear(3, 1)


@pytest.mark.parametrize("name", ["", "a.b", "."])
@pytest.mark.parametrize(
    "register",
    [
        lambda module, name: module.register_parameter(name, None),
        lambda module, name: module.register_buffer(name, np.zeros(1)),
        lambda module, name: module.add_module(name, Module()),
        lambda module, name: setattr(module, name, Module()),
        lambda module, name: setattr(module, name, Parameter([1.0])),
    ],
)
def test_names_that_are_empty_or_contain_a_dot_are_refused(register, name):
    module = Net()
    with pytest.raises(NameRefusedError) as caught:
        register(module, name)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, RegistrationError)
    assert str(caught.value).startswith(f"{name!r} cannot name a ")
    assert "a state joins names with dots" in str(caught.value)


def test_a_name_that_is_not_a_str_is_refused():
    with pytest.raises(RegistrationError, match="the name of a module is a str, not int"):
        Net().add_module(3, Module())  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["limit", "forward", "train"])
@pytest.mark.parametrize("held", [Module(), Parameter([1.0]), Buffer([1.0])])
def test_a_name_that_the_class_already_uses_is_refused(name, held):
    with pytest.raises(NameRefusedError, match=f"Net already has an attribute '{name}' that is not a "):
        setattr(Net(), name, held)


def test_an_error_says_what_a_registered_name_accepts():
    net = Net()
    with pytest.raises(RegistrationError) as caught:
        net.fc1.weight = np.zeros((3, 2))  # pyright: ignore[reportAttributeAccessIssue]
    assert str(caught.value) == (
        "Linear.weight is a parameter: it takes a parameter or None, not ndarray. Write into it in place, or delete "
        "the attribute first (del self.weight)."
    )
    with pytest.raises(RegistrationError, match=r"Net\.fc1 is a module: it takes a module or None, not int"):
        net.fc1 = 3  # pyright: ignore[reportAttributeAccessIssue]
    net.register_buffer("steps", np.zeros(()))
    with pytest.raises(RegistrationError, match=r"Net\.steps is a buffer: it takes a buffer or None, not int"):
        net.steps = 3


def test_an_array_assigned_to_a_buffer_replaces_it_and_keeps_its_persistence():
    net = Net()
    net.register_buffer("mean", np.zeros(2), persistent=False)
    array = np.ones(3)
    net.mean = array
    assert isinstance(net.mean, Buffer)
    assert np.shares_memory(net.mean.data, array)
    assert "mean" not in net.state_dict()
    net.mean = None
    assert net.mean is None
    net.mean = np.float32(2)
    assert net.mean.shape == ()


def test_an_unknown_attribute_is_an_error_with_the_nearest_name():
    net = Net()
    with pytest.raises(AttributeError) as caught:
        _ = net.fc3
    assert isinstance(caught.value, ModuleError)
    assert str(caught.value) in {
        "Net has no attribute 'fc3'. Did you mean 'fc1'?",
        "Net has no attribute 'fc3'. Did you mean 'fc2'?",
    }
    with pytest.raises(AttributeError, match=r"^Net has no attribute 'zzzzzz'\.$"):
        _ = net.zzzzzz
    with pytest.raises(AttributeError, match="zzz"):
        del net.zzz


def test_registered_names_are_in_dir():
    assert {"fc1", "fc2", "forward"} <= set(dir(Net()))
    assert {"weight", "bias"} <= set(dir(Linear(2, 2)))


def test_attributes_can_be_assigned_before_super_init_and_survive_it():
    class Late(Module):
        def __init__(self) -> None:
            self.width = 3
            self.notes = ["a"]
            super().__init__()

    assert (Late().width, Late().notes) == (3, ["a"])


Write = Callable[[Any, str, Any], Any]  # (module, name, value)
WRITES: dict[str, Write] = {
    "set": lambda module, name, new: module._parameters.__setitem__(name, new),
    "delete": lambda module, name, new: module._parameters.__delitem__(name),
    "pop": lambda module, name, new: module._parameters.pop(name),
    "pop with a default": lambda module, name, new: module._parameters.pop(name, None),
    "popitem": lambda module, name, new: module._parameters.popitem(),
    "update": lambda module, name, new: module._parameters.update({name: new}),
    "update by keyword": lambda module, name, new: module._parameters.update(**{name: new, "other": new}),
    "setdefault": lambda module, name, new: module._parameters.setdefault(name, new),
    "clear": lambda module, name, new: module._parameters.clear(),
    "merge": lambda module, name, new: module._parameters.__ior__({name: new}),
    "replace all": lambda module, name, new: setattr(module, "_parameters", {name: new}),
    "rename": lambda module, name, new: module._parameters.__setitem__("new", module._parameters.pop(name)),
    "prune": lambda module, name, new: (module._parameters.pop(name), setattr(module, name, new * 2)),
    "unprune": lambda module, name, new: (
        module._parameters.pop(name),
        setattr(module, name, new * 2),
        delattr(module, name),
        setattr(module, name, new),
    ),
    "none": lambda module, name, new: module._parameters.__setitem__(name, None),
    "buffer": lambda module, name, new: module._buffers.__setitem__("mask", new.data),
    "buffer deleted": lambda module, name, new: (module.register_buffer("m", new.data), module._buffers.pop("m")),
    "module": lambda module, name, new: module._modules.__setitem__("child", type(module)()),
    "module deleted": lambda module, name, new: (setattr(module, "c", type(module)()), module._modules.pop("c")),
}


def outcome(write: Write, side: Any, name: str) -> Any:
    """Return the picture of a module after a write to a collection, or the type of the error."""
    module = side.Empty()
    module.weight, module.bias = side.parameter(), side.parameter()
    new = side.parameter()
    try:
        write(module, name, new)
    except KeyError:
        return KeyError
    attributes = {known: getattr(module, known) is new for known in ("weight", "bias", "new") if hasattr(module, known)}
    return picture(module), attributes


@pytest.mark.torch
@pytest.mark.parametrize("name", ["weight", "new"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_attributes_follow_a_write_to_a_collection_as_in_torch(write: Write, name: str):
    pytest.importorskip("torch")
    assert outcome(write, Ours(), name) == outcome(write, Theirs(), name)


@pytest.mark.parametrize("name", ["_parameters", "_buffers", "_modules"])
def test_a_collection_refuses_values_and_names_that_a_module_cannot_hold(name: str):
    layer = Linear(2, 2)
    with pytest.raises(RegistrationError, match=r"Linear\.new is a \w+: it takes a \w+ or None, not str"):
        getattr(layer, name)["new"] = "text"
    with pytest.raises(NameRefusedError, match="a state joins names with dots"):
        getattr(layer, name)["a.b"] = None


def test_a_collection_outlives_its_module_and_does_not_keep_it_alive():
    layer = Linear(2, 2)
    gone, members = weakref.ref(layer), layer._parameters
    del layer
    assert gone() is None
    members["more"] = Parameter([1.0])
    del members["bias"]
    assert list(members) == ["weight", "more"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_the_attributes_of_a_copy_match_its_collections(copied: Callable[[Any], Any]):
    model = copied(Sequential(Linear(2, 3), BatchNorm1d(3)))
    for module in model.modules():
        for members in (module._parameters, module._buffers, module._modules):
            assert all(getattr(module, name) is member for name, member in members.items())
    model[0].bias = None
    assert model[0]._parameters["bias"] is None
    assert model[0].bias is None


def test_a_deleted_name_is_no_longer_an_attribute():
    layer = Linear(2, 2)
    del layer.bias
    assert not hasattr(layer, "bias")
    assert "bias" not in vars(layer)


def test_assigning_to_a_shallow_copy_does_not_change_the_original():
    layer = Linear(2, 2)
    weight, twin = layer.weight, copy.copy(layer)
    twin.weight = Parameter(np.zeros((2, 2), np.float32))
    assert layer.weight is layer._parameters["weight"] is weight
    assert twin.weight is twin._parameters["weight"] is not weight


def test_a_wrapper_can_delegate_unknown_attributes():
    class Wrapper(Module):
        def __init__(self, module: Module):
            super().__init__()
            self.module = module

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("module"), name)

    assert Wrapper(Linear(4, 3)).in_features == 4
