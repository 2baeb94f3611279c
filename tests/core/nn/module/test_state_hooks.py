"""Hooks and methods of the user that take part in saving and loading a state: honoured as in torch, or refused."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import MismatchError, load_file, load_model, save_file, save_model
from statezoo.core import Buffer, Linear, Module, Parameter, Sequential, StateDictError


def arrays(state: Any) -> dict[str, Any]:
    return {name: np.array(value).tolist() if hasattr(value, "shape") else value for name, value in state.items()}


class Renamed(Module):
    """A child that saves its weight transposed under another name, and loads it back."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(np.arange(6, dtype=np.float32).reshape(2, 3))
        self.scale = Buffer(np.ones(1, np.float32))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "transposed"] = destination.pop(prefix + "weight").T

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any, **more: Any) -> None:
        if prefix + "transposed" in state_dict:
            state_dict[prefix + "weight"] = np.asarray(state_dict.pop(prefix + "transposed")).T
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)
        self.sum = float(self.weight.data.sum())  # what is loaded is there by now


def model(kind: type[Module] = Renamed) -> Any:
    made = Sequential(Linear(3, 2), kind())
    with core.no_grad():
        for parameter in made.parameters():
            parameter.data += 1
    return made


def test_a_child_that_saves_and_loads_itself_is_asked():
    before, after = model(), Sequential(Linear(3, 2), Renamed())
    state = before.state_dict()
    assert list(state) == ["0.weight", "0.bias", "1.scale", "1.transposed"]
    given = dict(state)
    assert after.load_state_dict(state) == ([], [])
    assert after[1].sum == before[1].weight.data.sum()
    np.testing.assert_array_equal(after[1].weight.data, before[1].weight.data)
    np.testing.assert_array_equal(after[0].weight.data, before[0].weight.data)
    assert state.keys() == given.keys()  # the user's dict is not the one that the methods change


def test_files_hold_what_such_a_child_saves(tmp_path: Path):
    before, after = model(), Sequential(Linear(3, 2), Renamed())
    save_model(before, tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors")["1.transposed"].shape == (3, 2)
    load_model(after, tmp_path / "model.safetensors")
    np.testing.assert_array_equal(after[1].weight.data, before[1].weight.data)


class Refusing(Renamed):
    """A child that changes what it can reach, and then fails."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any, **more: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest, **more)
        self.weight.data[...] = 7
        self.loaded = True
        raise ValueError("no")


def unchanged_after(made: Any, load: Any, error: type[Exception], match: str) -> None:
    twin, arrays_before = copy.deepcopy(made), [t.data for t in made.parameters()]
    with pytest.raises(error, match=match):
        load()
    assert arrays(made.state_dict()) == arrays(twin.state_dict())
    assert all(t.data is array for t, array in zip(made.parameters(), arrays_before, strict=True))


def test_a_method_that_fails_changes_nothing(tmp_path: Path):
    made, other = Sequential(Linear(3, 2), Refusing()), model()
    save_model(other, tmp_path / "model.h5")
    unchanged_after(made, lambda: made.load_state_dict(other.state_dict()), ValueError, "no")
    unchanged_after(made, lambda: load_model(made, tmp_path / "model.h5"), MismatchError, "refused the state: Val")
    assert not hasattr(made[1], "loaded")


def test_a_post_hook_that_fails_changes_nothing():
    made, other = model(Linear23), model(Linear23)

    def fail(module: Module, keys: Any) -> None:
        raise KeyError("no")

    made.register_load_state_dict_post_hook(fail)
    unchanged_after(made, lambda: made.load_state_dict(other.state_dict()), KeyError, "no")


def test_names_that_do_not_fit_are_listed_and_change_nothing_also_with_hooks():
    made = model()
    made.register_load_state_dict_post_hook(lambda *_: None)
    state = {"0.wieght": np.ones((2, 3), np.float32), "1.scale": np.ones(2), "other.x": 1, "1.y": 1}
    lines = [
        "0.weight  is missing",
        "0.bias .*is missing",
        "1.weight .*is missing",
        r"1.scale .*is \(2,\)",
        "other.x .*not in the",
    ]
    for line in [*lines, "0.wieght .*did you mean 0.weight", "1.y .* is not in the model"]:
        unchanged_after(made, lambda: made.load_state_dict(state), StateDictError, line)


def test_tied_names_with_different_values_are_refused_also_with_hooks():
    made = Sequential(Linear(2, 2), Linear(2, 2))
    made[1].weight = made[0].weight
    made.register_load_state_dict_pre_hook(lambda *_: None)
    state = {name: np.array(value) for name, value in made.state_dict().items()}
    state["1.weight"] = state["1.weight"] + 1
    unchanged_after(made, lambda: made.load_state_dict(state), StateDictError, "shares memory with 1.weight")


class Linear23(Linear):
    def __init__(self) -> None:
        super().__init__(2, 3)


def test_a_hook_may_use_the_models_own_state():
    made = Sequential(Linear(2, 2, bias=False), Linear(2, 2, bias=False))
    made.register_load_state_dict_post_hook(lambda *_: None)
    one, two = (layer.weight.data.copy() for layer in made)
    made.load_state_dict({"0.weight": made[1].weight, "1.weight": made[0].weight})
    np.testing.assert_array_equal(made[0].weight.data, two)
    np.testing.assert_array_equal(made[1].weight.data, one)


def test_set_extra_state_without_get_extra_state_does_not_load_silently():
    class Sets(Module):
        def set_extra_state(self, state: Any) -> None:
            self.got = state

    made = Sets()
    with pytest.raises(StateDictError, match="_extra_state  is missing from the state"):
        made.load_state_dict({})
    made.load_state_dict({"_extra_state": 5})
    assert made.got == 5


def test_a_child_that_returns_another_dict_is_refused_and_one_that_changes_the_given_one_is_not():
    class Returns(Linear23):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {name: value for name, value in super().state_dict(*args, **kwargs).items()}  # noqa: C416

    class Changes(Linear23):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            state = super().state_dict(*args, **kwargs)
            state[kwargs.get("prefix", "") + "more"] = np.zeros(1)
            return state

    assert list(Returns().state_dict()) == ["weight", "bias"]
    with pytest.raises(core.ModuleError, match=r"state_dict\(\) of 0, or a hook of it, returned another dict"):
        Sequential(Returns()).state_dict()
    assert list(Sequential(Changes()).state_dict()) == ["0.weight", "0.bias", "0.more"]


def test_a_models_own_load_state_dict_is_called_for_files_too(tmp_path: Path):
    class Wrapped(Linear23):
        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return {"module." + name: value for name, value in super().state_dict(*args, **kwargs).items()}

        def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            bare = {name.removeprefix("module."): value for name, value in state_dict.items()}
            return super().load_state_dict(bare, *args, **kwargs)

    before, after = Wrapped(), Wrapped()
    save_model(before, tmp_path / "m.safetensors")
    assert list(load_file(tmp_path / "m.safetensors")) == ["module.weight", "module.bias"]
    load_model(after, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(before.weight.data, after.weight.data)


# --- as torch


@pytest.mark.torch
def test_hooks_run_in_torchs_order_with_torchs_arguments():
    import torch

    logs = []
    for nn in (core, torch.nn):
        log: list[Any] = []
        made = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1, bias=False)))
        for name, module in made.named_modules():
            note = log.append
            module.register_state_dict_pre_hook(lambda _, *rest, n=name, note=note: note(("pre", n, *rest)))
            module.register_state_dict_post_hook(
                lambda _, state, *rest, n=name, note=note: note(("post", n, list(state), *map(dict_or, rest)))
            )
            module._register_load_state_dict_pre_hook(
                lambda state, *rest, n=name, note=note: note((n, list(state), rest[0], copy.deepcopy(rest[2:])))
            )
            module.register_load_state_dict_pre_hook(lambda module, *_, note=note: note(type(module).__name__))
            module.register_load_state_dict_post_hook(
                lambda _, keys, n=name, note=note: note((n, *copy.deepcopy(tuple(keys))))
            )
        state = dict(made.state_dict(prefix="p."))
        log.append(list(state))
        plain = {name.removeprefix("p."): value for name, value in state.items()}
        extra = plain.pop("0.bias")
        result = made.load_state_dict({**plain, "0.more": extra, "1.0.x.y": extra, "z": extra}, strict=False)
        logs.append([*log, tuple(result)])
    assert logs[0] == logs[1]


def dict_or(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value


@pytest.mark.torch
def test_a_post_hook_may_clear_the_missing_keys_and_a_pre_hook_may_rename():
    import torch

    def rename(state: Any, prefix: str, *rest: Any) -> None:
        state[prefix + "weight"] = state.pop(prefix + "w")

    for nn in (core, torch.nn):
        made, donor = nn.Linear(2, 1), nn.Linear(2, 1)
        made._register_load_state_dict_pre_hook(rename)
        made.register_load_state_dict_post_hook(lambda _, keys: keys.missing_keys.clear())
        assert tuple(made.load_state_dict({"w": donor.state_dict()["weight"]})) == ([], [])
        np.testing.assert_array_equal(made.weight.detach().numpy(), donor.weight.detach().numpy())


@pytest.mark.torch
@pytest.mark.parametrize("hooked", [False, True])
def test_assign_keeps_the_dtype_of_the_state_and_takes_its_memory(hooked: bool):
    import torch

    for nn, make in ((core, np.asarray), (torch.nn, torch.tensor)):
        made = nn.Linear(2, 1)
        made.weight.requires_grad_(False)
        if hooked:
            made.register_load_state_dict_post_hook(lambda *_: None)
        state = {"weight": make(np.ones((1, 2))), "bias": make(np.ones(1))}
        made.load_state_dict(state, assign=True)
        state["weight"][0, 0] = 5
        assert np.asarray(made.weight.detach()).tolist() == [[5, 1]]
        assert "float64" in str(made.weight.dtype)
        assert (made.weight.requires_grad, made.bias.requires_grad) == (False, True)
        with pytest.raises(RuntimeError):
            made.load_state_dict({"weight": make(np.ones((1, 3))), "bias": make(np.ones(1))}, assign=True)


def test_assign_is_refused_for_memory_that_tensors_share_and_changes_nothing():
    made = Sequential(Linear(2, 2, bias=False), Linear(2, 2, bias=False))
    made[1].weight = Parameter(made[0].weight.T)
    state = copy.deepcopy(made).state_dict()
    unchanged_after(made, lambda: made.load_state_dict(state, assign=True), RuntimeError, "assign=True cannot keep")


@pytest.mark.torch
def test_keep_vars_and_destination_are_as_in_torch():
    import torch

    for nn in (core, torch.nn):
        layer, destination = nn.Linear(2, 1), {"x": 1}
        assert layer.state_dict(destination=destination, prefix="a.", keep_vars=True) is destination
        assert list(destination) == ["x", "a.weight", "a.bias"]
        assert destination["a.weight"] is layer.weight


# --- files with one of several tied names


class TwoNames(Module):
    def __init__(self, view: bool = False) -> None:
        super().__init__()
        self.first = Linear(3, 3, bias=False)
        self.second = Linear(3, 3, bias=False)
        self.second.weight = Parameter(self.first.weight.T) if view else self.first.weight


@pytest.mark.parametrize("view", [False, True])
@pytest.mark.parametrize("kept", ["first.weight", "second.weight"])
@pytest.mark.parametrize("suffix", [".safetensors", ".h5"])
def test_a_file_may_hold_one_of_two_names_that_the_model_ties(suffix: str, kept: str, view: bool, tmp_path: Path):
    path = tmp_path / f"one{suffix}"
    before, after = TwoNames(view), TwoNames(view)
    save_file({kept: before.state_dict()[kept]}, path)
    assert load_model(after, path) == ([], [])
    np.testing.assert_array_equal(after.first.weight.data, before.first.weight.data)
    np.testing.assert_array_equal(after.second.weight.data, before.second.weight.data)
    with pytest.raises(StateDictError, match="is missing from the state"):  # as in torch
        after.load_state_dict(load_file(path))


def test_a_file_without_either_name_is_refused(tmp_path: Path):
    made = Sequential(TwoNames(), Linear(1, 1, bias=False))
    save_file({"1.weight": np.ones((1, 1), np.float32)}, tmp_path / "none.safetensors")
    with pytest.raises(MismatchError, match=r"0.first.weight +is missing(.|\n)*0.second.weight  is missing"):
        load_model(made, tmp_path / "none.safetensors")


@pytest.mark.torch
def test_a_torch_model_takes_a_file_that_safetensors_wrote_with_one_of_two_tied_names(tmp_path: Path):
    import torch
    from safetensors.torch import save_model as save_as_safetensors

    def tied() -> Any:
        made = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
        made[1].weight = made[0].weight
        return made

    before, after = tied(), tied()
    save_as_safetensors(before, str(tmp_path / "m.safetensors"))
    load_model(after, tmp_path / "m.safetensors")
    assert all(map(torch.equal, before.parameters(), after.parameters()))
