"""load_state_dict: all or nothing, and every problem named."""

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.core import (
    BatchNorm1d,
    Buffer,
    Linear,
    Module,
    ModuleError,
    Parameter,
    ReLU,
    Sequential,
    StateDictError,
    Tensor,
)
from statezoo.core.commit.commit import Commit
from statezoo.core.nn.module.loading import plan_load
from statezoo.core.nn.module.targets import put_values, targets_of


class Net(Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = Sequential(Linear(3, 2), BatchNorm1d(2), ReLU(), Linear(2, 1))


class Autoencoder(Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Linear(3, 2)
        self.decoder = Linear(2, 3)
        self.decoder.weight = Parameter(self.encoder.weight.T)


def filled(model: Module, value: float) -> dict[str, np.ndarray]:
    return {name: np.full_like(array, value) for name, array in model.state_dict().items()}


def refused(model: Module, state: Any, **options: Any) -> str:
    """Return the text of the error, after checking that nothing changed."""
    before = {name: copy.deepcopy(value) for name, value in model.state_dict().items()}
    with pytest.raises(StateDictError) as caught:
        model.load_state_dict(state, **options)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    return str(caught.value)


def test_values_are_copied_into_the_models_own_arrays():
    model = Net()
    arrays = model.state_dict()
    state = filled(model, 2)
    assert model.load_state_dict(state) == ([], [])
    for name, array in model.state_dict().items():
        assert array is arrays[name]
        assert (array == 2).all()
        assert not np.may_share_memory(array, state[name])


def test_values_may_be_tensors_lists_and_arrays_of_another_byte_order():
    model = Linear(2, 1)
    model.load_state_dict({"weight": Parameter(np.full((1, 2), 3, np.float32)) * 2, "bias": np.array([4], ">f4")})
    assert model.weight.data.tolist() == [[6, 6]]
    assert model.bias is not None
    assert model.bias.data.tolist() == [4]
    assert model.bias.dtype == np.float32
    model.load_state_dict({"weight": [[1.0, 2.0]], "bias": [0]}, cast=True)
    assert model.weight.data.tolist() == [[1, 2]]


def test_one_error_lists_every_problem_in_the_order_of_the_model():
    model = Net()
    state = filled(model, 1)
    state["layers.0.weight"] = np.zeros((2, 4), np.float32)
    state["layers.0.bias"] = state["layers.0.bias"].astype(np.float64)
    state["layers.3.wieght"] = state.pop("layers.3.weight")
    state["extra"] = np.zeros(1)
    assert refused(model, state) == (
        "the state does not fit Net; nothing was changed.\n"
        "  layers.0.weight  is (2, 4) in the state, (2, 3) in the model\n"
        "  layers.0.bias    is float64 in the state, float32 in the model\n"
        "  layers.3.weight  is missing from the state\n"
        "  layers.3.wieght  is not in the model; did you mean layers.3.weight?\n"
        "  extra            is not in the model\n"
        "Build the model as it was when the state was saved, or pass strict=False to load the rest.\n"
        "Pass cast=True to convert to the model's dtypes."
    )


def test_a_plan_for_a_file_names_the_file():
    with pytest.raises(StateDictError) as caught:
        plan_load(targets_of(Linear(1, 1)), {"bias": np.zeros(2, np.float32)}, source="run7.h5", place="the file")
    assert str(caught.value) == (
        "run7.h5 does not fit Linear; nothing was changed.\n"
        "  weight  is missing from the file\n"
        "  bias    is (2,) in the file, (1,) in the model\n"
        "Build the model as it was when the state was saved."
    )
    assert caught.value.problems == [
        "weight  is missing from the file",
        "bias    is (2,) in the file, (1,) in the model",
    ]


def test_a_plan_changes_nothing_until_its_commit_is_applied():
    model, commit = Linear(1, 1), Commit()
    before = model.weight.item()
    targets = targets_of(model)
    plan = plan_load(targets, {"weight": np.full((1, 1), 9, np.float32)}, strict=False)
    assert (plan.missing_keys, plan.unexpected_keys) == (["bias"], [])
    put_values(model, targets, plan.values, commit)
    assert model.weight.item() == before
    commit.apply()
    assert model.weight.item() == 9


def test_without_strict_the_rest_is_loaded_and_the_skipped_names_are_returned():
    model = Net()
    state = filled(model, 5)
    del state["layers.0.bias"]
    state["layers.3.weight"] = np.zeros((7, 7), np.float32)
    state["other"] = np.zeros(1, np.float32)
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["layers.0.bias", "layers.3.weight"]
    assert result.unexpected_keys == ["layers.3.weight", "other"]
    assert result.mismatched_keys == [("layers.3.weight", (7, 7), (1, 2))]
    missing, unexpected = result  # like torch's result
    assert (missing, unexpected) == (result.missing_keys, result.unexpected_keys)
    left_out = {"layers.0.bias", "layers.3.weight"}
    for name, array in model.state_dict().items():
        assert (array == 5).all() == (name not in left_out)


def test_a_result_shows_its_three_lists_and_survives_pickling():
    result = Net().load_state_dict({"layers.0.bias": np.zeros(2, np.float32), "layers.0.weight": [[1.0]]}, strict=False)
    assert repr(result).endswith("mismatched_keys=[('layers.0.weight', (1, 1), (2, 3))])")
    sent = pickle.loads(pickle.dumps(result))
    assert sent == result
    assert sent.mismatched_keys == result.mismatched_keys


def test_a_state_that_matches_nothing_is_an_error_even_without_strict():
    assert refused(Net(), {"fc.weight": np.zeros((2, 3)), "fc.bias": np.zeros(2)}, strict=False) == (
        "the state does not fit Net; nothing was changed.\n"
        "  no name matches  the state has fc.weight, fc.bias; the model has layers.0.weight, layers.0.bias, "
        "layers.1.weight and 6 more\n"
        "Load the state of this model, or rename its keys to the model's names."
    )
    assert "the state has no names; the model has weight, bias" in refused(Linear(1, 1), {}, strict=False)
    assert ReLU().load_state_dict({"weight": np.zeros(1)}, strict=False) == ([], ["weight"])  # nothing to load


def test_a_state_whose_shapes_all_differ_is_an_error_even_without_strict():
    assert refused(Linear(2, 1), filled(Linear(3, 4), 1), strict=False) == (
        "the state does not fit Linear; nothing was changed.\n"
        "  weight  is (4, 3) in the state, (1, 2) in the model\n"
        "  bias    is (4,) in the state, (1,) in the model\n"
        "Build the model as it was when the state was saved."
    )


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_a_prefix_of_all_names_is_named_with_the_line_that_removes_it(prefix, strict):
    state = {prefix + name: value for name, value in filled(Net(), 2).items()}
    text = refused(Net(), state, strict=strict)
    assert text.endswith(
        f"\nAll unexpected names in the state start with '{prefix}', which the model's do not. Remove it: "
        f"model.load_state_dict({{name.removeprefix('{prefix}'): value for name, value in state.items()}})."
    )
    model = Net()
    model.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    assert (model.layers[0].weight.data == 2).all()


def test_a_prefix_of_most_names_is_named_and_so_is_one_missing_from_the_state():
    state = {f"model.{name}": value for name, value in filled(Net(), 2).items()}
    text = refused(Net(), {**state, "criterion.weight": np.zeros(1)})
    assert "9 of the 10 unexpected names in the state start with 'model.'" in text
    wrapper = Module()
    wrapper.net = Net()
    assert refused(wrapper, filled(Net(), 2)).endswith(
        "\nAll missing names in the model start with 'net.', which those in the state do not. "
        "Load into model.get_submodule('net')."
    )


def test_a_hint_prefers_a_missing_name_of_the_same_shape():
    model = Module()
    model.proj_in, model.proj_out = Linear(2, 3, bias=False), Linear(3, 2, bias=False)
    state = filled(model, 1)
    state["proj_i.weight"] = state.pop("proj_out.weight")
    del state["proj_in.weight"]
    assert "proj_i.weight    is not in the model; did you mean proj_out.weight?" in refused(model, state)


def test_an_array_of_shape_1_loads_into_a_number_and_the_batch_count_may_be_absent():
    model = BatchNorm1d(2)
    state = filled(model, 3)
    model.load_state_dict({**state, "num_batches_tracked": np.array([7])})
    assert model.state_dict()["num_batches_tracked"] == 7
    del state["num_batches_tracked"]
    assert model.load_state_dict(state) == ([], [])
    assert model.state_dict()["num_batches_tracked"] == 7
    del state["running_mean"]
    assert "running_mean  is missing from the state" in refused(model, state)


@pytest.mark.torch
@pytest.mark.parametrize("count", [None, [3], [3, 4], 3])
def test_torch_accepts_the_same_batch_counts(count):
    torch = pytest.importorskip("torch")
    state = {name: value for name, value in filled(BatchNorm1d(2), 1).items() if name != "num_batches_tracked"}
    if count is not None:
        state["num_batches_tracked"] = np.array(count)
    ours, theirs = BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    if count == [3, 4]:
        refused(ours, state)
        with pytest.raises(RuntimeError, match="size mismatch"):
            theirs.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        return
    ours.load_state_dict(state)
    theirs.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    assert ours.state_dict()["num_batches_tracked"] == theirs.num_batches_tracked.item()


def test_without_strict_a_wrong_dtype_is_still_an_error():
    text = refused(Linear(1, 1), {"weight": np.zeros((1, 1))}, strict=False)
    assert "weight  is float64 in the state, float32 in the model" in text
    assert "strict" not in text


@pytest.mark.parametrize(
    ("old", "new", "values"),
    [
        (np.float64, np.float32, [1.5, np.nan, np.inf]),
        (np.float32, ml_dtypes.bfloat16, [1.5, np.nan, -2]),
        (ml_dtypes.bfloat16, np.float32, [1.5, 2, 3]),
        (ml_dtypes.float8_e4m3fn, np.float64, [1.5, 2, 3]),
        (np.int32, np.float32, [1, 2, 3]),
        (np.int64, np.int8, [1, -2, 127]),
        (np.uint8, np.int64, [1, 2, 255]),
    ],
)
def test_with_cast_values_are_converted_and_without_it_they_are_refused(old, new, values):
    model = Module()
    model.x = Buffer(np.zeros(3, new))
    state = {"x": np.array(values, old)}
    text = refused(model, state)
    assert f"x  is {np.dtype(old)} in the state, {np.dtype(new)} in the model" in text
    assert text.endswith("Pass cast=True to convert to the model's dtypes.")
    model.load_state_dict(state, cast=True)
    assert model.x.dtype == new
    np.testing.assert_array_equal(model.x.data.astype(np.float64), np.array(values, np.float64))


@pytest.mark.parametrize(
    ("old", "new"),
    [(np.float32, np.int64), (np.complex64, np.float32), (np.bool_, np.float32), (np.int64, np.bool_), ("U1", "f4")],
)
def test_a_cast_that_would_change_the_kind_of_value_is_refused_even_if_requested(old, new):
    model = Module()
    model.x = Buffer(np.zeros(1, new))
    text = refused(model, {"x": np.ones(1, old)}, cast=True)
    assert text.endswith("Convert the values yourself: no cast preserves their meaning.")


@pytest.mark.parametrize(("value", "new"), [(300, np.int8), (-1, np.uint8), (1e39, np.float32), (1e6, np.float16)])
def test_a_cast_that_would_overflow_is_refused(value, new):
    model = Module()
    model.x = Buffer(np.zeros(1, new))
    text = refused(model, {"x": np.array([value])}, cast=True)
    assert f"x  has values in the state that do not fit {np.dtype(new)}" in text


def test_an_error_names_a_value_that_is_not_an_array():
    text = refused(Linear(1, 1), {"weight": [[1.0], [2.0, 3.0]], "bias": np.zeros(1, np.float32)})
    assert "  weight  cannot be read as an array: " in text


def test_a_state_that_is_not_a_mapping_is_refused():
    with pytest.raises(ModuleError, match="a state is a dict of arrays by name, not list"):
        Linear(1, 1).load_state_dict([("weight", 1)])  # pyright: ignore[reportArgumentType]


def test_a_read_only_array_in_the_model_is_named_before_anything_changes():
    model = Linear(2, 1)
    assert model.bias is not None
    model.bias.data.flags.writeable = False
    text = refused(model, filled(model, 1))
    assert text.endswith(
        "  bias  is read-only in the model\nLoad into copy.deepcopy(model), whose arrays are writable."
    )
    assert copy.deepcopy(model).load_state_dict(filled(model, 1)) == ([], [])


# --- tied names


def test_equal_values_for_tied_names_load_even_if_they_are_nan():
    model = Autoencoder()
    weight = np.array([[1, 2, 3], [4, np.nan, -0.0]], np.float32)
    model.load_state_dict({**filled(model, 0), "encoder.weight": weight, "decoder.weight": weight.T})
    np.testing.assert_array_equal(model.encoder.weight.data, weight)
    np.testing.assert_array_equal(model.decoder.weight.data, weight.T)
    assert model.decoder.weight.base is model.encoder.weight


@pytest.mark.parametrize("strict", [True, False])
def test_conflicting_values_for_tied_names_are_an_error_that_names_both(strict):
    model = Autoencoder()
    state = filled(model, 1)
    state["decoder.weight"][0, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert refused(model, state, strict=strict) == (
        "the state does not fit Autoencoder; nothing was changed.\n"
        "  encoder.weight  shares memory with decoder.weight in the model, but the state has different values for "
        "them\n"
        "Give the names that share memory equal values, or build the model without that sharing."
    )


def test_minus_zero_and_zero_are_different_values_for_tied_names():
    model = Linear(1, 1, bias=False)
    model.twin = model.weight
    assert "shares memory with twin" in refused(
        model, {"weight": np.zeros((1, 1), np.float32), "twin": -np.zeros((1, 1), np.float32)}
    )


def test_parts_of_one_array_that_do_not_overlap_take_different_values():
    memory = np.zeros((4, 2), np.float32)
    model = Module()
    model.left, model.right = Parameter(memory[:, 0]), Parameter(memory[:, 1])
    model.load_state_dict({"left": np.ones(4, np.float32), "right": np.full(4, 2, np.float32)})
    assert memory.tolist() == [[1, 2]] * 4


def test_a_conflict_names_only_arrays_that_overlap():
    memory = np.zeros((4, 3), np.float32)
    model = Module()
    model.left, model.right, model.row = Buffer(memory[:, 0]), Buffer(memory[:, 2]), Buffer(memory[0])
    state = {"left": np.ones(4, np.float32), "right": np.zeros(4, np.float32), "row": np.zeros(3, np.float32)}
    text = refused(model, state)
    assert "left  shares memory with row in the model" in text
    assert "right" not in text


def test_tied_values_are_compared_after_the_cast():
    model = Linear(1, 1, bias=False)
    model.twin = model.weight
    near = {"weight": np.array([[1.0]]), "twin": np.array([[1.0 + 1e-12]])}
    model.load_state_dict(near, cast=True)
    assert model.weight.item() == 1


def test_a_buffer_that_repeats_an_element_takes_only_one_value():
    model = Module()
    model.x = Buffer(np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (3,), (0,)))
    model.load_state_dict({"x": np.full(3, 2, np.float32)})
    assert model.x.data.tolist() == [2, 2, 2]
    assert "x  repeats elements in the model" in refused(model, {"x": np.arange(3, dtype=np.float32)})


# --- values in the model's own memory


def test_a_model_loads_its_own_live_state():
    model = Autoencoder()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    model.load_state_dict(model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@settings(derandomize=True, deadline=None)
@given(st.permutations(range(5)), st.booleans())
def test_a_models_live_arrays_can_be_permuted(order, backwards):
    model = Sequential(*(Linear(2, 2, bias=False) for _ in order))
    live = list(model.state_dict().values())
    values = [live[position][::-1] if backwards else live[position] for position in order]
    expected = [value.copy() for value in values]
    model.load_state_dict({f"{position}.weight": value for position, value in enumerate(values)})
    for array, value in zip(model.state_dict().values(), expected, strict=True):
        np.testing.assert_array_equal(array, value)


# --- extra state


class Counter(Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.scale = Parameter([1.0])

    def get_extra_state(self) -> Any:
        return {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = state["count"]
        if self.count < 0:
            raise ValueError("a count is not negative")


def test_extra_state_is_passed_to_its_module():
    model = Sequential(Counter(), Counter())
    state = {"0.scale": Tensor([2.0]), "1.scale": Tensor([3.0]), "0._extra_state": {"count": 4}}
    result = model.load_state_dict({**state, "1._extra_state": {"count": 5}})
    assert result == ([], [])
    assert (model[0].count, model[1].count, model[1].scale.item()) == (4, 5, 3)


def test_an_error_names_missing_and_unexpected_extra_state():
    text = refused(Counter(), {"scale": np.ones(1, np.float32)})
    assert "_extra_state  is missing from the state" in text
    text = refused(Linear(1, 1), {**filled(Linear(1, 1), 0), "_extra_state": 1})
    assert "_extra_state  is not in the model" in text


@pytest.mark.parametrize("bad", [{"count": -1}, {}, None])
def test_refused_extra_state_leaves_arrays_and_extra_state_unchanged(bad):
    model = Sequential(Counter(), Counter())
    model[0].count, model[1].count = 1, 2
    state = {"0.scale": [9.0], "0._extra_state": {"count": 7}, "1.scale": [9.0], "1._extra_state": bad}
    text = refused(model, {name: np.float32(v) if "scale" in name else v for name, v in state.items()}, cast=True)
    assert "1._extra_state  was refused by Counter.set_extra_state(): " in text
    assert text.endswith("Check set_extra_state() of that module.")
    assert (model[0].count, model[1].count) == (1, 2)


def test_extra_state_that_is_the_modules_own_dict_is_restored_too():
    class Live(Counter):
        def get_extra_state(self) -> Any:
            return self.__dict__.setdefault("seen", {"count": 1})

        def set_extra_state(self, state: Any) -> None:
            self.get_extra_state().update(state)
            if state["count"] < 0:
                raise ValueError("a count is not negative")

    refused(Live(), {"scale": np.ones(1, np.float32), "_extra_state": {"count": -1}})


def test_the_others_are_restored_even_if_one_extra_state_cannot_be():
    class OneWay(Counter):
        def set_extra_state(self, state: Any) -> None:
            raise OSError("closed")

    model = Sequential(OneWay(), Counter())
    text = refused(model, {f"{i}.{name}": value for i in (0, 1) for name, value in model[1].state_dict().items()})
    assert "0._extra_state  was refused by OneWay.set_extra_state(): OSError: closed" in text


def test_an_error_can_be_copied_and_sent_to_another_process():
    with pytest.raises(StateDictError) as caught:
        Linear(1, 1).load_state_dict({})
    sent = pickle.loads(pickle.dumps(caught.value))
    assert (str(sent), sent.problems) == (str(caught.value), caught.value.problems)


# --- any combination of problems


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_nothing_changes_whatever_is_wrong_with_a_state(data):
    model = Net()
    state: dict[str, Any] = filled(model, 3)
    required = sorted(set(state) - {"layers.1.num_batches_tracked"})
    names = data.draw(st.lists(st.sampled_from(required), min_size=1, unique=True))
    for name in names:
        defect = data.draw(st.sampled_from(["missing", "shape", "dtype", "renamed", "junk"]))
        value = state.pop(name)
        if defect == "shape":
            state[name] = np.zeros((*value.shape, 2), value.dtype)
        elif defect == "dtype":
            state[name] = value.astype(np.complex64)
        elif defect == "renamed":
            state[name + "x"] = value
        elif defect == "junk":
            state[name] = object()
    text = refused(model, state)
    assert all(f"  {name} " in text for name in names)
