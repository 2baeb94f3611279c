"""Mistakes that silently train or save the wrong thing elsewhere: here each is an error that names its fix."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from statezoo.core import (
    GraphError,
    Linear,
    Module,
    ModuleDict,
    ModuleList,
    MSELoss,
    OptimizerError,
    Parameter,
    ParameterList,
    RegistrationError,
    Sequential,
    Tensor,
    no_grad,
    optim,
)

TRAVERSALS: list[Callable[[Any], Any]] = [
    lambda model: optim.SGD(model.parameters(), lr=0.1),
    lambda model: list(model.named_parameters()),
    lambda model: list(model.buffers()),
    lambda model: list(model.named_modules()),
    lambda model: list(model.children()),
    lambda model: model.state_dict(),
    lambda model: model.load_state_dict({}),
    lambda model: model.train(),
    lambda model: model.eval(),
    lambda model: model.to(np.float64),
    lambda model: model.zero_grad(),
    lambda model: model.requires_grad_(False),
    lambda model: model.apply(print),
    lambda model: model.num_parameters(),
]


class Net(Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = Linear(2, 2)


# --- forgotten super().__init__()


class Forgotten(Module):
    def __init__(self, value: Any = None) -> None:
        if value is not None:
            self.fc = value


@pytest.mark.parametrize("value", [Linear(1, 1), Parameter([1.0])])
def test_a_forgotten_super_init_is_named_at_the_first_assignment(value):
    with pytest.raises(RegistrationError) as caught:
        Forgotten(value)
    assert str(caught.value) == (
        "Forgotten assigns 'fc' before Module.__init__() has run. Call super().__init__() at the start of "
        "Forgotten.__init__()."
    )


@pytest.mark.parametrize("use", [*TRAVERSALS, lambda model: model(1), repr, lambda model: model.training])
def test_a_forgotten_super_init_is_named_when_the_module_is_used(use):
    with pytest.raises(RegistrationError) as caught:
        use(Forgotten())
    assert str(caught.value) == (
        "Forgotten has not run Module.__init__(). Call super().__init__() at the start of Forgotten.__init__()."
    )


def test_a_forgotten_super_init_is_named_through_the_model_that_holds_the_module():
    model = Sequential(Forgotten())
    with pytest.raises(RegistrationError, match=r"Forgotten has not run Module\.__init__\(\)"):
        model.state_dict()


# --- modules and parameters in plain containers


@pytest.mark.parametrize("traverse", TRAVERSALS)
def test_a_list_filled_after_its_assignment_is_caught_at_the_next_traversal(traverse):
    class Stack(Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = []
            for _ in range(3):
                self.layers.append(Linear(2, 2))

    with pytest.raises(RegistrationError) as caught:
        traverse(Stack())
    assert str(caught.value) == (
        "Stack.layers is a list that holds layers[0], a Linear that no module has registered: it would not be trained, "
        "saved or converted. Use ModuleList instead (or ModuleDict, ParameterList). To keep it out of the model on "
        "purpose, write object.__setattr__(self, 'layers', ...)."
    )


@pytest.mark.parametrize(
    ("value", "path", "use"),
    [
        (lambda: [Linear(1, 1)], "a list that holds parts[0], a Linear", "ModuleList"),
        (lambda: (1, Linear(1, 1)), "a tuple that holds parts[1], a Linear", "ModuleList"),
        (lambda: {"a": Linear(1, 1)}, "a dict that holds parts['a'], a Linear", "ModuleDict"),
        (lambda: {Linear(1, 1)}, "a set that holds parts, a Linear", "ModuleList"),
        (lambda: [Parameter([1.0])], "a list that holds parts[0], a Parameter", "ParameterList"),
        (lambda: {"a": [0, (Parameter([1.0]),)]}, "a dict that holds parts['a'][1][0], a Parameter", "ParameterList"),
        (lambda: [[], {"x": {"y": Net()}}], "a list that holds parts[1]['x']['y'], a Net", "ModuleList"),
    ],
)
def test_a_filled_container_is_caught_at_its_assignment(value, path, use):
    net = Net()
    with pytest.raises(RegistrationError) as caught:
        net.parts = value()
    assert str(caught.value).startswith(f"Net.parts is {path} that no module has registered: ")
    assert f"Use {use} instead" in str(caught.value)
    assert not hasattr(net, "parts")


def test_a_list_in_the_class_is_caught_like_one_in_the_instance():
    class Shared(Module):
        layers: ClassVar[list[Module]] = []

        def __init__(self) -> None:
            super().__init__()
            self.layers.append(Linear(1, 1))

    with pytest.raises(RegistrationError, match=r"^Shared\.layers is a list that holds layers\[0\], a Linear "):
        Shared().state_dict()


def test_the_error_names_the_module_in_the_tree_that_has_the_container():
    model = Sequential(Net())
    model[0].extras = {}
    model[0].extras["b"] = Linear(1, 1)
    with pytest.raises(RegistrationError, match=r"^Net \(0\)\.extras is a dict that holds extras\['b'\], a Linear "):
        model.state_dict()


def test_a_container_of_registered_modules_is_allowed():
    class Branches(Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = Linear(1, 1), Linear(1, 1)
            self.order = [self.left, (self.right, {"weight": self.left.weight})]

    model = Sequential(Branches())
    assert len(model.state_dict()) == 4
    model[0].order.append(model[0])
    assert len(list(model.parameters())) == 4
    assert len(list(model[0].left.parameters())) == 2


def test_a_child_may_list_modules_that_its_parent_holds():
    model = Module()
    model.shared = Linear(1, 1)
    model.user = Module()
    model.user.uses = [model.shared]
    assert len(model.state_dict()) == 2
    assert len(list(model.user.parameters())) == 0


def test_a_list_is_caught_until_it_becomes_a_module_list():
    model = Module()
    model.blocks = []
    model.blocks.append(Linear(1, 1))
    with pytest.raises(RegistrationError):
        model.train()
    model.layers = ModuleList(model.blocks)
    assert len(list(model.train().parameters())) == 2


def test_a_layer_removed_from_the_model_but_kept_in_a_list_is_caught():
    model = Net()
    model.order = [model.fc]
    assert len(list(model.parameters())) == 2
    model.fc = Linear(2, 2)
    with pytest.raises(RegistrationError, match=r"Net\.order is a list that holds order\[0\], a Linear"):
        model.parameters().__next__()


def test_the_check_can_be_bypassed_for_one_module_and_for_a_list():
    model, teacher = Net(), Linear(2, 2)
    object.__setattr__(model, "teacher", teacher)
    object.__setattr__(model, "teachers", [teacher])
    assert list(model.state_dict()) == ["fc.weight", "fc.bias"]
    assert model.teacher is model.teachers[0] is teacher


def test_the_recommended_containers_are_accepted():
    model = Net()
    model.a, model.b = ModuleList([Linear(1, 1)]), ModuleDict({"x": Linear(1, 1)})
    model.c = ParameterList([Parameter([1.0])])
    assert len(list(model.parameters())) == 7


def test_a_list_that_contains_itself_or_plain_values_is_allowed():
    model = Net()
    loop: list[Any] = [1, "a", None, np.ones(2)]
    loop.append(loop)
    model.loop = loop
    assert len(model.state_dict()) == 2


def test_a_copy_is_checked_too():
    import copy

    model = Net()
    model.order = [model.fc]
    twin = copy.deepcopy(model)
    assert twin.order[0] is twin.fc
    twin.order.append(Linear(1, 1))
    with pytest.raises(RegistrationError, match=r"order\[1\]"):
        twin.state_dict()
    assert len(model.state_dict()) == 2


# --- a tensor that should have been a Parameter


def test_a_tensor_that_requires_a_gradient_is_refused_as_an_attribute_and_the_error_says_parameter():
    model = Net()
    with pytest.raises(RegistrationError) as caught:
        model.scale = Tensor([1.0], requires_grad=True)
    assert str(caught.value) == (
        "Net.scale is a Tensor that requires a gradient but is not a Parameter: it would not be trained or saved. "
        "Write self.scale = Parameter(...)."
    )
    model.scale = Parameter([1.0])
    model.last = model.scale * 2  # the result of an operation may be kept
    model.constant = Tensor([1.0])
    assert list(model.state_dict()) == ["scale", "fc.weight", "fc.bias"]


# --- errors from the rest of core, met through modules


def test_a_second_backward_through_a_model_says_what_to_do():
    loss = Net().fc(np.ones((1, 2), np.float32)).sum()
    loss.backward()
    with pytest.raises(GraphError, match="Run the forward pass again before each backward"):
        loss.backward()


def test_an_optimizer_of_a_model_without_parameters_is_refused():
    with pytest.raises(OptimizerError):
        optim.SGD(Module().parameters(), lr=0.1)


def test_a_loss_that_would_broadcast_is_refused_in_training():
    model = Linear(2, 1)
    with pytest.raises(ValueError, match="differ; broadcasting them would average over the wrong pairs"):
        MSELoss()(model(np.ones((3, 2), np.float32)), np.ones(3, np.float32))


def test_backward_is_refused_if_the_model_was_called_under_no_grad():
    with no_grad():
        out = Linear(2, 1)(np.ones((3, 2), np.float32)).sum()
    with pytest.raises(GraphError, match="outside no_grad"):
        out.backward()
