"""A framework of the user's own: two methods, and everything that takes a model takes its models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import (
    Adapter,
    ArgumentError,
    History,
    MismatchError,
    diff,
    fingerprint,
    load_file,
    load_model,
    register_adapter,
    save_model,
)
from statezoo.checkpoints.models import adapters
from statezoo.checkpoints.testing import assert_roundtrip


class Value:
    """A number, as in micrograd."""

    def __init__(self, data: float) -> None:
        self.data = data


class Net:
    """A framework whose numbers are Python objects."""

    def __init__(self, *numbers: float) -> None:
        self.values = [Value(number) for number in numbers]


class NetAdapter(Adapter):
    def state(self, model: Net) -> dict[str, np.ndarray]:
        return {"values": np.array([value.data for value in model.values])}

    def load(self, model: Net, values: Mapping[str, Any], commit: Any) -> None:
        commit.add(
            (setattr, value, "data", number)
            for value, number in zip(model.values, values["values"].tolist(), strict=True)
        )


@pytest.fixture(autouse=True, params=["class", "name"])
def _registered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_registered", {})
    register_adapter(Net if request.param == "class" else f"{__name__}.Net", NetAdapter())


def numbers(model: Net) -> list[float]:
    return [value.data for value in model.values]


class Deeper(Net):
    """A subclass, which the adapter of its base serves."""


def test_a_model_of_a_framework_of_the_users_own_is_saved_and_loaded(path: Path):
    save_model(Deeper(1.5, -2.0), path)
    assert load_file(path)["values"].tolist() == [1.5, -2.0]
    model = Net(0.0, 0.0)
    assert load_model(model, path) == ([], [])
    assert numbers(model) == [1.5, -2.0]


def test_the_other_functions_take_such_a_model_too(path: Path, tmp_path: Path):
    model = Net(1.5, -2.0)
    save_model(model, path)
    assert_roundtrip(model)
    assert fingerprint(model) == fingerprint(path)
    assert diff(model, path).same
    assert [change.name for change in diff(Net(1.5, 2.0), path).tensors] == ["values"]
    with History(tmp_path / "run", background=True) as history:
        saved = history.save(1, model)
        model.values[0].data = 9.0
    assert load_file(saved)["values"].tolist() == [1.5, -2.0]


def test_a_file_that_does_not_fit_changes_nothing(path: Path):
    save_model(Net(1.5, -2.0, 3.0), path)
    model = Net(7.0, 8.0)
    with pytest.raises(
        MismatchError, match=r"does not fit Net; nothing was changed\.\n  values  is \(3,\) in the file"
    ):
        load_model(model, path)
    assert numbers(model) == [7.0, 8.0]


def test_a_model_that_cannot_change_is_returned_as_a_new_one(path: Path):
    class Frozen(tuple[float, ...]):
        pass

    class FrozenAdapter(Adapter):
        def state(self, model: Frozen) -> dict[str, np.ndarray]:
            return {"values": np.array(list(model))}

        def load(self, model: Frozen, values: Mapping[str, Any], commit: Any) -> Frozen:
            return Frozen(values["values"].tolist())

    register_adapter(Frozen, FrozenAdapter())
    save_model(Net(1.5, -2.0), path)
    model = Frozen((0.0, 0.0))
    assert load_model(model, path) == (1.5, -2.0)
    assert model == (0.0, 0.0)
    assert_roundtrip(model)


def test_a_kind_or_an_adapter_of_another_type_is_refused():
    with pytest.raises(
        ArgumentError, match="takes a class, or its full name, and an instance of a subclass of Adapter"
    ):
        register_adapter(Net, NetAdapter)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="not 3 and"):
        register_adapter(3, NetAdapter())  # pyright: ignore[reportArgumentType]
