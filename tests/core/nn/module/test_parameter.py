"""Parameter and Buffer, and parameters that are views of others."""

import copy
import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import Buffer, GraphError, Linear, ModuleError, Parameter, Tensor, no_grad, optim


def numbers(*shape: int) -> np.ndarray:
    return np.arange(1, np.prod(shape) + 1, dtype=np.float64).reshape(shape)


def test_a_parameter_requires_a_gradient_and_has_torchs_repr():
    parameter = Parameter(np.array([1.0, 2.0], np.float32))
    assert parameter.requires_grad
    assert repr(parameter) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"


def test_a_parameter_of_integers_must_not_require_a_gradient():
    with pytest.raises(ModuleError, match="only a tensor of floats can require a gradient"):
        Parameter(np.array([1, 2]))
    assert not Parameter(np.array([1, 2]), requires_grad=False).requires_grad


def test_a_parameter_holds_the_given_array():
    array = numbers(2)
    assert Parameter(array).data.shows is array
    assert Parameter(Tensor(array)).data.shows is array


def test_a_buffer_requires_no_gradient_even_if_its_tensor_did():
    buffer = Buffer(Tensor(numbers(2), requires_grad=True) * 2, persistent=False)
    assert not buffer.requires_grad
    assert not buffer.persistent
    assert not buffer._parents


@st.composite
def chains(draw: st.DrawFn):
    """Draw a function that makes a view of a (4, 6) tensor in one to three steps."""
    steps = draw(
        st.lists(
            st.sampled_from(
                [
                    lambda t: t.T,
                    lambda t: t[1:],
                    lambda t: t[::-1],
                    lambda t: t[::2],
                    lambda t: t[0],
                    lambda t: t.reshape(-1) if t.data.flags.c_contiguous else t,
                    lambda t: t.unsqueeze(0),
                ]
            ),
            min_size=1,
            max_size=3,
        )
    )

    def view(tensor: Tensor) -> Tensor:
        for step in steps:
            tensor = step(tensor) if tensor.ndim else tensor
        return tensor

    return view


@settings(derandomize=True, deadline=None)
@given(chains())
def test_a_view_has_the_same_gradient_as_one_made_in_forward(view):
    base, plain = Parameter(numbers(4, 6)), Parameter(numbers(4, 6))
    lasting = Parameter(view(base))
    for _ in range(2):  # the link survives backward()
        (lasting * lasting + lasting).sum().backward()
        made = view(plain)
        (made * made + made).sum().backward()
    np.testing.assert_array_equal(base.grad, plain.grad)
    assert lasting.grad is None
    assert np.shares_memory(lasting.data, base.data) or lasting.data.size == 0


def test_gradients_through_a_base_and_its_view_add_up_in_the_base():
    base = Parameter(numbers(2, 3))
    view = Parameter(base.T)
    (base.sum() + (view * 10).sum()).backward()
    np.testing.assert_array_equal(base.grad, np.full((2, 3), 11.0))


def test_a_view_of_a_view_belongs_to_the_first_base():
    base = Parameter(numbers(4, 3))
    middle = Parameter(base[1:])
    view = Parameter(middle.T)
    assert view.base is base
    (view * 2).sum().backward()
    np.testing.assert_array_equal(base.grad, [[0] * 3, [2] * 3, [2] * 3, [2] * 3])


def test_a_parameter_of_a_parameter_shares_its_gradient_too():
    base = Parameter(numbers(2))
    again = Parameter(base)
    assert again is not base
    (again * 3).sum().backward()
    np.testing.assert_array_equal(base.grad, [3, 3])


def test_an_optimizer_steps_the_memory_of_a_view_once():
    base = Parameter(numbers(2, 2))
    view = Parameter(base.T)
    sgd = optim.SGD([base, view], lr=0.1)
    (view * 1).sum().backward()
    sgd.step()
    np.testing.assert_allclose(base.data, numbers(2, 2) - 0.1)


def test_a_frozen_view_passes_on_no_gradient():
    base = Parameter(numbers(2, 2))
    view = Parameter(base.T, requires_grad=False)
    assert not (view * 2).requires_grad
    view.requires_grad = True
    (view * 2).sum().backward()
    assert base.grad is not None


def test_a_result_that_is_not_a_view_becomes_an_independent_parameter():
    base = Parameter(numbers(2, 3))
    for result in (base * 2, base.T.reshape(-1), base[[0]], base.sum(), base.clone()):
        parameter = Parameter(result)
        assert parameter.base is None
        parameter.sum().backward()
        assert parameter.grad is not None
    assert base.grad is None


def test_view_of_returns_a_parameter_linked_to_its_base():
    base = Parameter(numbers(3, 4))
    array = base.data[:, ::2]
    view = Parameter.view_of(base, array)
    assert np.shares_memory(view.data, array)
    assert view.base is base


@pytest.mark.parametrize("make", [lambda a: a.copy(), lambda a: a.view(np.int64), lambda a: a.astype(np.float32)])
def test_view_of_refuses_an_array_that_is_not_a_view_of_the_base(make):
    base = Parameter(numbers(2, 3))
    with pytest.raises(ModuleError, match=r"is not a view of the memory of a parameter \(2, 3\) of float64"):
        Parameter.view_of(base, make(base.data), requires_grad=False)


def test_view_of_refuses_elements_between_those_of_the_base():
    array = numbers(4, 4)
    with pytest.raises(ModuleError, match="is not a view of the memory"):
        Parameter.view_of(Parameter(array[:, ::2]), array[:3, 1::2])


def test_a_view_that_repeats_elements_is_refused_and_the_error_says_what_to_do():
    base = Parameter(numbers(1, 3))
    with pytest.raises(ModuleError) as caught:
        Parameter(base.expand(4, 3))
    assert str(caught.value) == (
        "a view (4, 3) that repeats elements of a parameter (1, 3) cannot be a Parameter: the repeats cannot be "
        "loaded or stepped separately. Expand the parameter in forward() instead."
    )


def test_a_view_whose_memory_was_replaced_says_so_at_the_next_backward():
    base = Parameter(numbers(2, 3))
    view = Parameter(base.T)
    base.data = base.data.copy()
    with pytest.raises(
        GraphError, match=r"no longer a view of its base .*: `\.data` was replaced\. Write values into it in place"
    ):
        (view * 2).sum().backward()


def test_an_in_place_change_of_a_view_shows_in_its_base():
    encoder, decoder = Linear(4, 2), Linear(2, 4)
    decoder.weight = Parameter(encoder.weight.T)
    weight: Tensor = decoder.weight
    with no_grad():
        weight += 1.0
    np.testing.assert_array_equal(encoder.weight.data, decoder.weight.data.T)


def test_a_deep_copy_of_a_single_parameter_or_buffer_has_its_own_memory():
    base = Parameter(numbers(2), requires_grad=False)
    for tensor in (base, Parameter(base), Buffer(numbers(2), persistent=False)):
        twin = copy.deepcopy(tensor)
        assert type(twin) is type(tensor)
        assert not np.may_share_memory(twin.data, tensor.data)
        np.testing.assert_array_equal(twin.data, tensor.data)
    assert not copy.deepcopy(base).requires_grad
    assert not copy.deepcopy(Buffer(numbers(2), persistent=False)).persistent


def test_a_view_of_a_huge_parameter_allocates_almost_no_memory():
    base = Parameter(np.empty((100_000, 10_000), np.float32))  # 4 GB, reserved but never touched
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert Parameter(base.T).base is base
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
