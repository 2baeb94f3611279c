"""Who holds a parameter, as an optimizer asks it."""

import copy
import gc

import pytest

from statezoo.core import Linear, Module, ModuleList, OptimizerError, Parameter, Sequential, optim
from statezoo.core.nn.module import ownership
from statezoo.core.nn.module.ownership import roots, same_model, still_owned, version


def test_the_root_of_a_parameter_is_the_outermost_module():
    layer = Linear(2, 2)
    inner = Sequential(layer)
    outer = Sequential(inner)
    assert len(roots(layer.weight)) == 1
    assert roots(layer.weight) == roots(inner) == roots(layer)
    assert roots(outer) == frozenset()
    assert same_model(outer, layer.weight)
    assert not same_model(outer, Linear(2, 2))


def test_a_parameter_in_two_models_has_two_roots_and_is_owned_while_one_is_left():
    one, other = Linear(2, 2), Linear(2, 2)
    other.weight = one.weight
    known = roots(one.weight)
    assert len(known) == 2
    weight = one.weight
    one.weight = Parameter(weight.data.copy())
    assert still_owned(weight, known)
    del other.weight
    assert not still_owned(weight, known)


def test_a_parameter_under_two_names_of_one_module_is_owned_until_both_are_gone():
    module = Module()
    module.a = module.b = Parameter([1.0])
    weight, known = module.a, roots(module.a)
    del module.a
    assert still_owned(weight, known)
    module.b = None
    assert not still_owned(weight, known)


def test_a_replaced_layer_is_no_longer_owned():
    model = Sequential(Linear(2, 2), Linear(2, 2))
    old = model[0]
    known = roots(old.weight)
    before = version()
    model[0] = Linear(2, 2)
    assert version() > before
    assert not still_owned(old.weight, known)
    assert still_owned(model[1].weight, roots(model[1].weight))


def test_to_wrap_the_model_in_a_larger_one_is_no_loss_and_neither_is_to_take_it_out_again():
    model = Linear(2, 2)
    known = roots(model.weight)
    wrapper = Sequential(model)
    assert still_owned(model.weight, known)
    within = roots(model.weight)
    del wrapper
    gc.collect()
    assert still_owned(model.weight, within)


def test_a_model_that_is_gone_owns_nothing():
    model = Linear(2, 2)
    weight, known = model.weight, roots(model.weight)
    del model
    gc.collect()
    assert not still_owned(weight, known)


def test_a_parameter_that_was_never_in_a_model_counts_as_owned():
    weight = Parameter([1.0])
    assert roots(weight) == frozenset()
    assert still_owned(weight, frozenset())


def test_to_traverse_a_model_or_to_assign_plain_attributes_changes_no_version():
    model = Sequential(Linear(2, 2))
    before = version()
    model.note = 3
    model.eval().train().requires_grad_(False).zero_grad()
    model.load_state_dict(model.state_dict())
    assert version() == before


def test_a_deep_copy_owns_its_parameters_and_not_those_of_the_original():
    model = Sequential(Linear(2, 2))
    twin = copy.deepcopy(model)
    assert same_model(twin, twin[0].weight)
    assert not same_model(twin, model[0].weight)
    assert roots(twin[0].weight) != roots(model[0].weight)


def test_an_optimizer_notices_that_its_layer_was_replaced():
    model = Sequential(Linear(2, 2))
    sgd = optim.SGD(model.parameters(), lr=0.1)
    old = model[0]
    model[0] = Linear(2, 2)
    old(old.weight).sum().backward()
    with pytest.raises(OptimizerError, match="is no longer part of the model"):
        sgd.step()


def test_modules_that_hold_each_other_do_not_hang_the_search():
    one, other = Module(), Module()
    one.other, other.one = other, one
    one.weight = Parameter([1.0])
    assert [name for name, _ in one.named_parameters()] == ["weight"]
    assert roots(one.weight) == frozenset()


def test_what_is_known_of_a_layer_does_not_grow_with_the_holders_it_had():
    layer = Linear(2, 2)
    model, queue = Sequential(layer, Linear(2, 2)), ModuleList()
    for _ in range(100):
        model[:1]
        queue.append(Linear(2, 2))
        del queue[0]
    gc.collect()
    assert len(ownership._known(layer).holders) == 1
    assert len(ownership._known(queue).held) == 0
