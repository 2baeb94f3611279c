"""Copies and pickles of tensors, parameters, modules and optimizers keep values, ties and views."""

import copy
import itertools
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo import zoo
from statezoo.core import (
    BatchNorm1d,
    Buffer,
    Linear,
    Module,
    ModuleError,
    Parameter,
    ParameterList,
    Sequential,
    Tensor,
    capture,
    optim,
)
from statezoo.core.nn.module.hooks import Hook

Copy = Callable[[Any], Any]
DEEP: dict[str, Copy] = {"deepcopy": copy.deepcopy}
DEEP |= {
    f"pickle {p}": lambda value, p=p: pickle.loads(pickle.dumps(value, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)
}
deep = pytest.mark.parametrize("copied", DEEP.values(), ids=DEEP.keys())


class Autoencoder(Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = Linear(4, 3), Linear(3, 4)
        self.decoder.weight = Parameter(self.encoder.weight.T)


def sharing(tensors: list[Any]) -> list[tuple[bool, bool]]:
    """Return for each pair whether they are one object, and whether they share memory."""
    pairs = itertools.combinations(tensors, 2)
    return [(one is two, np.shares_memory(one.data, two.data)) for one, two in pairs]


def assert_equal_but_apart(copied: Any, original: Any) -> None:
    assert type(copied) is type(original)
    np.testing.assert_array_equal(copied.data, original.data)
    assert copied.data.dtype == original.data.dtype
    assert copied.requires_grad == original.requires_grad
    assert not np.shares_memory(copied.data, original.data)


@deep
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_, np.complex64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_a_tensor_of_any_dtype_and_shape_is_copied(copied: Copy, dtype: Any, shape: tuple[int, ...]):
    array = np.ones(shape, dtype)
    for tensor in (Tensor(array), Parameter(array, requires_grad=False), Buffer(array, persistent=False)):
        assert_equal_but_apart(copied(tensor), tensor)
    assert not copied(Buffer(array, persistent=False)).persistent


@deep
def test_the_result_of_an_operation_is_copied_without_its_graph(copied: Copy):
    weight = Parameter([1.0, 2.0])
    twin = copied(weight * 2)
    assert twin.data.tolist() == [2, 4]
    assert not twin.requires_grad
    weight.grad = np.ones(2, np.float32)
    assert copied(weight).grad is None
    assert copied(weight).requires_grad


VIEWS: list[Callable[[Tensor], Tensor]] = [
    lambda t: t.T,
    lambda t: t[1:],
    lambda t: t[::-1],
    lambda t: t[:, ::2],
    lambda t: t[0],
    lambda t: t.reshape(-1) if t.data.flags.c_contiguous else t,
    lambda t: t.unsqueeze(0),
]


@settings(derandomize=True, deadline=None)
@given(
    views=st.lists(st.lists(st.sampled_from(VIEWS), max_size=3), min_size=1, max_size=4),
    order=st.sampled_from("CF"),
    outer=st.booleans(),
    last_first=st.booleans(),
    copied=st.sampled_from(list(DEEP.values())),
)
def test_tensors_that_share_memory_share_it_in_the_copy(views, order, outer, last_first, copied):
    array = np.asarray(np.arange(48, dtype=np.float32).reshape(6, 8), order=order)
    base = Parameter(array[1:5, 1:7] if outer else array)
    tensors: list[Any] = [base, base]
    for chain in views:
        view: Tensor = base
        for step in chain:
            view = step(view) if view.ndim > 1 else view
        tensors += [Parameter(view), Buffer(view)]
    tensors = tensors[::-1] if last_first else tensors
    twins = copied(tensors)
    assert sharing(twins) == sharing(tensors)
    for twin, tensor in zip(twins, tensors, strict=True):
        np.testing.assert_array_equal(twin.data, tensor.data)
        if isinstance(tensor, Parameter) and tensor.base is not None:
            assert twin.base is twins[[t is base for t in tensors].index(True)]
            (twin * 1).sum().backward()
    assert not np.shares_memory(twins[0].data, array)


@pytest.mark.parametrize("tensor", [Parameter([1.0]), Buffer([1.0]), Tensor([1.0])])
def test_a_shallow_copy_shares_the_memory(tensor: Tensor):
    twin = copy.copy(tensor)
    assert twin is not tensor
    assert np.shares_memory(twin.data, tensor.data)
    view = copy.copy(Parameter(Parameter([[1.0, 2.0]]).T))
    assert view.base is not None
    assert np.shares_memory(view.data, view.base.data)


def test_a_view_whose_base_was_given_new_memory_cannot_be_copied():
    model = Autoencoder()
    model.encoder.weight.data = model.encoder.weight.data.copy()
    with pytest.raises(ModuleError) as caught:
        pickle.dumps(model)
    assert str(caught.value) == (
        "a Parameter (4, 3) cannot be copied or pickled as a view: the memory of its base (3, 4) was replaced, "
        "or is in neither C nor Fortran order. Make the view again from a parameter in C order."
    )


class Named(Parameter):
    """A subclass whose constructor takes other arguments."""

    def __init__(self, name: str) -> None:
        super().__init__([1.0, 2.0])
        self.name = name


@deep
def test_a_subclass_of_parameter_keeps_its_attributes(copied: Copy):
    twin = copied(Named("w"))
    assert (type(twin), twin.name, twin.data.tolist()) == (Named, "w", [1, 2])


# --- modules


@deep
@pytest.mark.parametrize("name", zoo.list_models())
def test_every_model_of_the_zoo_is_copied_with_its_ties(copied: Copy, name: str):
    model = zoo.load(name)
    twin = copied(model)
    assert repr(twin) == repr(model)
    assert twin.training == model.training
    state = twin.state_dict()
    assert list(state) == list(model.state_dict())
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(state[key], array)
    tensors = [[*m.parameters(), *m.buffers()] for m in (twin, model)]
    assert sharing(tensors[0]) == sharing(tensors[1])
    bases = [[p.base is not None for p in m.parameters()] for m in (twin, model)]
    assert bases[0] == bases[1]
    assert twin.load_state_dict(model.state_dict()) == ([], [])


@deep
def test_a_view_in_a_copied_model_passes_its_gradient_to_the_base_of_the_copy(copied: Copy):
    model = Autoencoder()
    twin = copied(model)
    twin.decoder(np.ones((2, 3), np.float32)).sum().backward()
    assert twin.encoder.weight.grad is not None
    assert model.encoder.weight.grad is None
    sgd = optim.SGD(twin.parameters(), lr=0.1)
    before = twin.decoder.weight.data.copy()
    sgd.step()
    np.testing.assert_allclose(twin.decoder.weight.data, before - 0.2, rtol=1e-5)


@deep
def test_parts_of_one_array_and_parameters_in_a_list_keep_their_sharing(copied: Copy):
    memory = np.arange(8, dtype=np.float32).reshape(4, 2)
    model = Module()
    model.left, model.right = Parameter(memory[:, 0]), Buffer(memory[:, 1], persistent=False)
    model.both = Buffer(memory)
    model.more = ParameterList([model.left, Parameter([1.0])])
    twin = copied(model)
    assert twin.more[0] is twin.left
    twin.both.data[...] = 7
    assert twin.left.data.tolist() == twin.right.data.tolist() == [7] * 4
    assert list(twin.state_dict()) == list(model.state_dict())
    assert memory[0, 0] == 0


def double(module: Module, args: Any, output: Tensor) -> Tensor:
    return output * 2


@deep
def test_hooks_are_copied_and_a_new_hook_does_not_replace_one(copied: Copy):
    model = Linear(2, 1)
    model.register_forward_hook(double)
    x = np.ones((1, 2), np.float32)
    twin = copied(model)
    np.testing.assert_array_equal(twin(x).data, model(x).data)
    twin.register_forward_hook(double).remove()
    np.testing.assert_array_equal(twin(x).data, model(x).data)
    with capture(twin, "") as seen:
        twin(x)
    assert len(seen[""]) == 1


def test_a_new_hook_in_another_process_does_not_replace_a_pickled_one():
    model = Linear(2, 1)
    vars(model)["_forward_hooks"][0] = Hook(double)  # the first key, as another process would assign it
    program = (
        "import pickle, sys; sys.path.insert(0, sys.argv[1]); model = pickle.load(sys.stdin.buffer)\n"
        "model.register_forward_hook(print); print(len(model._forward_hooks))"
    )
    folder = __file__.rpartition("/")[0]
    data = pickle.dumps(model)
    done = subprocess.run([sys.executable, "-c", program, folder], input=data, capture_output=True, check=True)
    assert done.stdout == b"2\n"


@deep
def test_a_copy_can_be_registered_changed_and_traversed(copied: Copy):
    twin = copied(Sequential(Autoencoder(), BatchNorm1d(2)))
    model = Sequential(twin[0])
    model[0].encoder = Linear(2, 2)
    assert len(list(model.parameters())) == 4
    assert twin[1].register_buffer("more", np.zeros(1)) is None
    assert "more" in twin[1].state_dict()


# --- optimizers


OPTIMIZERS: list[Callable[[Any], optim.Optimizer]] = [
    lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    lambda parameters: optim.Adam(parameters, lr=0.01),
    lambda parameters: optim.AdamW(parameters, lr=0.01),
]


def train(model: Module, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    hidden = model.encoder(np.ones((2, 4), np.float32))
    (model.decoder(hidden) ** 2).mean().backward()
    optimizer.step()


@deep
@pytest.mark.parametrize("model_first", [True, False])
@pytest.mark.parametrize("make", OPTIMIZERS, ids=["SGD", "Adam", "AdamW"])
def test_copies_of_a_model_and_its_optimizer_continue_training(copied: Copy, make: Any, model_first: bool):
    model = Autoencoder()
    optimizer = make(model.named_parameters())
    train(model, optimizer)
    pair = [model, optimizer] if model_first else [optimizer, model]
    twin, other = copied(pair)[:: 1 if model_first else -1]
    for _ in range(2):
        train(model, optimizer)
        train(twin, other)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(twin.state_dict()[name], array)
    held = {id(parameter) for group in other.param_groups for parameter in group["params"]}
    assert held <= {id(parameter) for parameter in twin.parameters()}
    saved, expected = other.state_dict()["state"], optimizer.state_dict()["state"]
    for position, arrays in expected.items():
        for key, array in arrays.items():
            np.testing.assert_array_equal(saved[position][key], array)


def weight_in_a_worker(model: Module) -> float:
    with_view = model.decoder.weight.base is model.encoder.weight
    return float(model.encoder.weight.data.sum()) if with_view else float("nan")


def test_a_model_with_a_view_can_be_sent_to_a_spawned_process():
    model = Autoencoder()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(weight_in_a_worker, (model,)) == float(model.encoder.weight.data.sum())
