"""nn.utils: weights that are computed from others, and parameters as a vector. PyTorch is the oracle."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.core import Linear, Module, Parameter, Sequential, Tensor
from statezoo.core.nn.utils import parametrizations, parametrize

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def in_torch() -> Any:
    """Return torch with the names that tests look for in core."""
    import torch

    return torch


# Each function that normalizes the weight of a Linear(4, 3), by the library.
NORMS: dict[str, Callable[[Any, Any], Any]] = {
    "weight_norm": lambda nn, m: nn.utils.parametrizations.weight_norm(m),
    "weight_norm of columns": lambda nn, m: nn.utils.parametrizations.weight_norm(m, dim=1),
    "weight_norm of all": lambda nn, m: nn.utils.parametrizations.weight_norm(m, dim=None),
    "weight_norm of the bias": lambda nn, m: nn.utils.parametrizations.weight_norm(m, "bias"),
    "spectral_norm": lambda nn, m: nn.utils.parametrizations.spectral_norm(m),
    "spectral_norm of columns": lambda nn, m: nn.utils.parametrizations.spectral_norm(m, n_power_iterations=3, dim=1),
    "old weight_norm": lambda nn, m: nn.utils.weight_norm(m),
    "old weight_norm of all": lambda nn, m: nn.utils.weight_norm(m, dim=None),
    "old spectral_norm": lambda nn, m: nn.utils.spectral_norm(m),
    "both": lambda nn, m: nn.utils.parametrizations.spectral_norm(nn.utils.parametrizations.weight_norm(m)),
}
TWO = sorted(NORMS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.torch
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", TWO)
def test_a_normalized_layer_has_torchs_state_outputs_and_gradients(norm: str, training: bool):
    torch = in_torch()
    theirs = NORMS[norm](torch.nn, torch.nn.Linear(4, 3))
    ours = NORMS[norm](core.nn, Linear(4, 3))
    state = {name: value.clone().numpy() for name, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    assert [value.shape for value in ours.state_dict().values()] == [value.shape for value in state.values()]
    ours.load_state_dict(state)
    for module in (ours, theirs):
        module.train(training)
    for _ in range(2):
        out, expected = ours(Tensor(X)), theirs(torch.tensor(X))
        out.sum().backward()
        expected.sum().backward()
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    for (name, parameter), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(parameter.grad, other.grad.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("norm", ["weight_norm", "weight_norm of all", "old weight_norm", "old weight_norm of all"])
def test_a_weight_norm_changes_no_output_at_first(norm: str):
    layer = Linear(4, 3)
    before = layer(Tensor(X)).data
    np.testing.assert_allclose(NORMS[norm](core.nn, layer)(Tensor(X)).data, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", TWO)
def test_a_normalized_layer_is_copied_and_pickled(norm: str):
    layer = NORMS[norm](core.nn, Linear(4, 3)).eval()
    expected = layer(Tensor(X)).data
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert list(twin.state_dict()) == list(layer.state_dict())
        with core.no_grad():
            for parameter in twin.parameters():
                parameter.data *= 2
        assert not np.allclose(twin(Tensor(X)).data, expected)
        np.testing.assert_array_equal(layer(Tensor(X)).data, expected)


def test_a_spectral_norm_divides_by_the_largest_singular_value():
    layer = parametrizations.spectral_norm(Linear(4, 3))
    for _ in range(20):
        layer(Tensor(X))
    assert np.linalg.norm(np.asarray(layer.weight.detach()), 2) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_the_old_functions_are_undone_by_their_opposites(name: str):
    layer = getattr(core.nn.utils, name)(Linear(4, 3)).eval()
    expected = layer(Tensor(X)).data
    getattr(core.nn.utils, f"remove_{name}")(layer)
    assert list(layer.state_dict()) == ["bias", "weight"]
    assert isinstance(layer.weight, Parameter)
    np.testing.assert_array_equal(layer(Tensor(X)).data, expected)
    with pytest.raises(ValueError, match=r"Linear has no weight_norm or spectral_norm of 'weight' to remove\."):
        getattr(core.nn.utils, f"remove_{name}")(layer)


# --- parametrize


class Symmetric(Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + x.T) * 0.5


class Doubled(Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0

    def right_inverse(self, x: Tensor) -> Tensor:
        return x / 2.0


def test_a_parametrized_tensor_is_computed_from_the_same_parameter_and_can_be_set():
    layer = Linear(3, 3)
    weight = layer.weight
    before = weight.data.copy()
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert parametrize.is_parametrized(layer)
    assert not parametrize.is_parametrized(layer, "bias")
    assert layer.parametrizations.weight.original is weight
    np.testing.assert_array_equal(layer.weight.data, before)
    layer.weight = np.ones((3, 3), np.float32)  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_array_equal(weight.data, np.full((3, 3), 0.5))
    layer(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    np.testing.assert_array_equal(weight.grad, np.full((3, 3), 2))
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert len(layer.parametrizations.weight) == 2
    parametrize.remove_parametrizations(layer, "weight")
    assert layer.weight is weight
    np.testing.assert_array_equal(weight.data, np.ones((3, 3)))
    assert list(layer.state_dict()) == ["bias", "weight"]


def test_a_parametrization_is_removed_with_the_original_or_the_computed_value():
    for leave, factor in ((True, 1), (False, 0.5)):
        layer = parametrize.register_parametrization(Linear(3, 3), "weight", Doubled())
        computed = layer.weight.data.copy()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=leave)
        np.testing.assert_array_equal(layer.weight.data, computed * factor)
    layer = parametrizations.weight_norm(Linear(3, 3))
    with pytest.raises(ValueError, match="'weight' is computed from several tensors: use leave_parametrized=True"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    computed = layer.weight.data.copy()
    parametrize.remove_parametrizations(layer, "weight")
    np.testing.assert_array_equal(layer.weight.data, computed)
    with pytest.raises(ValueError, match=r"Linear has no parametrization of 'weight'\."):
        parametrize.remove_parametrizations(layer, "weight")


def test_a_parametrization_of_another_shape_or_of_nothing_is_refused_and_changes_nothing():
    class Row(Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[0]

    class Half(Row):
        def right_inverse(self, x: Tensor) -> Tensor:
            return x / 2.0

    class Short(Row):
        def right_inverse(self, x: Tensor) -> Tensor:
            return x[0]

    layer = Linear(3, 3)
    state, weight = list(layer.state_dict()), layer.weight.data.copy()
    for wrong in (Half(), Short()):
        with pytest.raises(ValueError, match=r"made float32 \(3,\) of float32 \(3, 3\)"):
            parametrize.register_parametrization(layer, "weight", wrong)
        np.testing.assert_array_equal(layer.weight.data, weight)
    with pytest.raises(ValueError, match=r"made float32 \(3,\) of float32 \(3, 3\)\. If that is intended, pass unsafe"):
        parametrize.register_parametrization(layer, "weight", Row())
    with pytest.raises(ValueError, match=r"Linear has no parameter or buffer 'wieght' to parametrize\."):
        parametrize.register_parametrization(layer, "wieght", Doubled())
    with pytest.raises(ValueError, match=r"Linear has no parameter 'wieght'\."):
        core.nn.utils.weight_norm(layer, "wieght")
    assert list(layer.state_dict()) == state
    parametrize.register_parametrization(layer, "weight", Row(), unsafe=True)
    assert layer.weight.shape == (3,)


def test_a_parametrized_model_loads_all_or_nothing():
    model = Sequential(parametrizations.weight_norm(Linear(4, 3)), Linear(3, 2))
    state = {name: array.copy() for name, array in model.state_dict().items()}
    wrong = {**state, "1.bias": np.zeros(5, np.float32), "0.bias": state["0.bias"] + 1}
    with pytest.raises(core.StateDictError, match=r"1\.bias"):
        model.load_state_dict(wrong)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


# --- vectors


@pytest.mark.torch
def test_parameters_become_a_vector_and_come_back_as_in_torch():
    torch = in_torch()
    ours = Sequential(Linear(4, 3), Linear(3, 2))
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    theirs.load_state_dict({name: torch.tensor(np.array(array)) for name, array in ours.state_dict().items()})
    vectors = [nn.utils.parameters_to_vector(m.parameters()) for nn, m in ((core.nn, ours), (torch.nn, theirs))]
    np.testing.assert_array_equal(np.asarray(vectors[0].detach()), vectors[1].detach().numpy())
    for nn, model, vector in ((core.nn, ours, vectors[0]), (torch.nn, theirs, vectors[1])):
        nn.utils.vector_to_parameters(vector.detach() + 1, model.parameters())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_array_equal(mine.data, other.detach().numpy())


def test_the_vector_of_parameters_has_a_gradient_and_one_of_another_length_is_refused():
    model = Linear(2, 1)
    (core.nn.utils.parameters_to_vector(model.parameters()) ** 2).sum().backward()
    assert model.weight.grad is not None
    np.testing.assert_allclose(model.weight.grad, 2 * model.weight.data)
    before = model.weight.data.copy()
    with pytest.raises(ValueError, match=r"the parameters have 3 elements, the vector has shape \(4,\)\."):
        core.nn.utils.vector_to_parameters(Tensor(np.zeros(4)), model.parameters())
    core.nn.utils.vector_to_parameters(Tensor([]), [])
    np.testing.assert_array_equal(model.weight.data, before)


def test_skip_init_makes_the_layer():
    assert repr(core.nn.utils.skip_init(Linear, 2, 3, bias=False)) == repr(Linear(2, 3, bias=False))
