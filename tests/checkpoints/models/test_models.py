"""Loading a file into a model: all or nothing, and never silently untied."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core
from statezoo.checkpoints import (
    ArgumentError,
    CheckpointError,
    CorruptError,
    MismatchError,
    MissingFileError,
    UnsupportedTypeError,
    inspect,
    load_file,
    load_model,
    save_file,
    save_model,
)
from statezoo.checkpoints.storage.source import FileSource
from statezoo.checkpoints.testing import compare_states


class Tied(core.Module):
    """An embedding and a head, with one shared weight or two."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = core.Embedding(5, 4)
        self.head = core.Linear(4, 5, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


class Autoencoder(core.Module):
    """An encoder and a decoder, which uses the encoder's weight transposed or its own."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.encoder = core.Linear(4, 3)
        self.decoder = core.Linear(3, 4)
        if tied:
            self.decoder.weight = core.Parameter(self.encoder.weight.T)


class Counting(core.Module):
    """A module with state that is not an array."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = core.Parameter(np.ones(2))
        self.steps = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": self.steps}

    def set_extra_state(self, state: Any) -> None:
        if state["steps"] < 0:
            raise ValueError("negative steps")
        self.steps = state["steps"]


def values(model: core.Module) -> dict[str, Any]:
    return copy.deepcopy(dict(model.state_dict()))


def test_the_values_are_copied_into_the_models_own_arrays(path: Path):
    saved, model = core.TransformerBlock(8, 2), core.TransformerBlock(8, 2)
    save_model(saved, path)
    arrays = model.state_dict()
    assert load_model(model, path) == ([], [])
    assert all(model.state_dict()[name] is array for name, array in arrays.items())
    assert list(compare_states(saved.state_dict(), model.state_dict())) == []


def test_buffers_and_extra_state_are_loaded(path: Path):
    saved = core.Sequential(core.BatchNorm1d(3), Counting())
    saved.state_dict()["0.running_mean"][...] = 7
    saved[1].steps = 5
    save_model(saved, path)
    model = core.Sequential(core.BatchNorm1d(3), Counting())
    load_model(model, path)
    assert model.state_dict()["0.running_mean"].tolist() == [7, 7, 7]
    assert model[1].steps == 5


def test_extra_state_that_the_model_refuses_is_an_error_and_changes_nothing(path: Path):
    save_file({"weight": np.full(2, 9.0), "_extra_state": {"steps": -1}}, path)
    model = Counting()
    before = values(model)
    with pytest.raises(MismatchError, match=r"negative steps"):
        load_model(model, path)
    assert list(compare_states(before, values(model))) == []


def test_a_tied_model_is_tied_after_loading_and_stored_once(path: Path):
    save_model(Tied(), path)
    model = Tied()
    load_model(model, path)
    assert model.head.weight is model.embedding.weight
    assert inspect(path).stored_bytes == model.embedding.weight.data.nbytes


def test_every_mismatch_is_in_one_error_and_nothing_is_changed(path: Path):
    model = core.Sequential(core.Linear(3, 2), core.Linear(2, 2))
    state = values(model)
    state["0.weight"] = np.ones((2, 4), np.float32)
    state["0.bias"] = state["0.bias"].astype(np.float64)
    state["extra"] = state.pop("1.bias")
    save_file(state, path)
    before = values(model)
    with pytest.raises(MismatchError) as caught:
        load_model(model, path)
    text = str(caught.value)
    assert text.startswith(f"{path.name} does not fit Sequential; nothing was changed.\n")
    assert "0.weight  is (2, 4) in the file, (2, 3) in the model" in text
    assert "is float64 in the file, float32 in the model" in text
    assert "is missing from the file" in text
    assert "is not in the model" in text
    assert text.endswith(caught.value.advice)
    assert len(caught.value.problems) == 4
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, CheckpointError)
    assert list(compare_states(before, values(model))) == []


def test_strict_false_loads_the_rest_and_lists_what_was_skipped(path: Path):
    save_file({"weight": np.full((2, 3), 7, np.float32), "other": np.ones(1)}, path)
    model = core.Linear(3, 2)
    result = load_model(model, path, strict=False)
    assert result == (["bias"], ["other"])
    assert (model.weight.data == 7).all()


def test_a_dtype_is_converted_only_on_request(path: Path):
    save_file({"weight": np.full((2, 3), 1.5), "bias": np.zeros(2)}, path)
    model = core.Linear(3, 2)
    with pytest.raises(MismatchError, match=r"cast=True"):
        load_model(model, path)
    load_model(model, path, cast=True)
    assert model.weight.data.dtype == np.float32
    assert (model.weight.data == 1.5).all()


@pytest.mark.parametrize("kind", [Tied, Autoencoder])
def test_missing_ties_in_the_model_are_an_error_that_names_both(path: Path, kind: Any):
    save_model(kind(), path)
    model = kind(tied=False)
    before = values(model)
    first, second = ("embedding", "head") if kind is Tied else ("encoder", "decoder")
    with pytest.raises(MismatchError) as caught:
        load_model(model, path)
    assert f"{second}.weight  shares memory with {first}.weight in the file, not in the model" in str(caught.value)
    assert 'ties="restore"' in caught.value.advice
    assert list(compare_states(before, values(model))) == []


def test_missing_ties_in_the_model_are_made_on_request(path: Path):
    save_model(Tied(), path)
    model = Tied(tied=False)
    load_model(model, path, ties="restore")
    assert model.head.weight is model.embedding.weight
    assert list(compare_states(load_file(path), model.state_dict())) == []


def test_missing_views_in_the_model_are_made_on_request(path: Path):
    save_model(Autoencoder(), path)
    model = Autoencoder(tied=False)
    load_model(model, path, ties="restore")
    assert model.decoder.weight.base is model.encoder.weight
    model.encoder.weight.data[0, 1] = 99
    assert model.decoder.weight.data[1, 0] == 99
    assert list(compare_states(load_file(path), values(model))) != []  # the 99
    load_model(model, path)
    assert list(compare_states(load_file(path), model.state_dict())) == []


def test_sharing_between_a_parameter_and_a_buffer_is_made_on_request(path: Path):
    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = core.Parameter(np.ones((2, 3), np.float32))
            self.register_buffer("shadow", np.ones((3, 2), np.float32))

    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"weight": weight, "shadow": weight.T}, path)
    model = Net()
    load_model(model, path, ties="restore")
    model.weight.data[0, 1] = 99
    assert model.state_dict()["shadow"][1, 0] == 99


def test_existing_ties_in_the_model_are_kept_when_ties_are_made(path: Path):
    class Net(core.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.a = core.Parameter(np.ones(3))
            self.b = self.a if tied else core.Parameter(np.ones(3))
            self.c = core.Parameter(np.ones(3)) if tied else self.b

    save_model(Net(tied=True), path)
    model = Net(tied=False)
    load_model(model, path, ties="restore")
    assert model.a is model.b is model.c


def test_a_tie_that_would_untie_a_view_in_the_model_cannot_be_made(path: Path):
    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = core.Parameter(np.ones((2, 2)))
            self.b = core.Parameter(np.ones((2, 2)))
            self.c = core.Parameter(self.b.T)

    weight = np.ones((2, 2))
    save_file({"a": weight, "b": weight, "c": weight.copy()}, path)
    with pytest.raises(MismatchError, match=r"b  shares memory with a in the file, not in the model") as caught:
        load_model(Net(), path, ties="restore")
    assert "Build the model with them sharing memory" in caught.value.advice


def test_a_tie_to_a_name_of_another_shape_is_not_made(path: Path):
    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = core.Parameter(np.ones(3))
            self.b = core.Parameter(np.ones(2))

    weight = np.zeros(3)
    save_file({"a": weight, "b": weight}, path)
    with pytest.raises(MismatchError, match=r"b  is \(3,\) in the file, \(2,\) in the model"):
        load_model(Net(), path, ties="restore")
    model = Net()
    assert load_model(model, path, ties="restore", strict=False) == (["b"], ["b"])
    assert model.a.data.tolist() == [0, 0, 0]
    assert model.b.data.tolist() == [1, 1]


def test_a_problem_elsewhere_prevents_ties_from_being_made(path: Path):
    save_file(dict(Tied().state_dict()) | {"more": np.ones(1)}, path)
    model = Tied(tied=False)
    weight = model.head.weight
    with pytest.raises(MismatchError, match=r"more"):
        load_model(model, path, ties="restore")
    assert model.head.weight is weight


def test_missing_overlapping_slices_in_the_model_are_an_error(path: Path):
    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = core.Parameter(np.zeros(8))
            self.b = core.Parameter(np.zeros(8))

    base = np.arange(12.0)
    save_file({"a": base[:8], "b": base[4:]}, path)
    for ties in ("error", "restore"):
        with pytest.raises(MismatchError, match=r"b  shares memory with a in the file, not in the model"):
            load_model(Net(), path, ties=ties)


def test_ties_missing_from_the_file_must_have_equal_values(path: Path):
    untied = Tied(tied=False)
    save_model(untied, path)
    model = Tied()
    before = values(model)
    with pytest.raises(MismatchError, match=r"shares memory with .*but the file has different values"):
        load_model(model, path)
    assert list(compare_states(before, values(model))) == []
    untied.head.weight.data[...] = untied.embedding.weight.data
    save_model(untied, path)
    load_model(model, path)
    assert model.head.weight is model.embedding.weight
    assert (model.head.weight.data == untied.head.weight.data).all()


def test_damage_in_the_last_tensor_leaves_the_first_unchanged(path: Path):
    model = core.Sequential(core.Linear(3, 2), core.Linear(2, 2))
    save_model(model, path)
    last = model.state_dict()["1.bias"].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(last)] ^= 1
    path.write_bytes(content)
    fresh = core.Sequential(core.Linear(3, 2), core.Linear(2, 2))
    before = values(fresh)
    with pytest.raises(CorruptError):
        load_model(fresh, path)
    assert list(compare_states(before, values(fresh))) == []


def test_a_missing_file_and_wrong_arguments_are_errors(path: Path):
    with pytest.raises(MissingFileError):
        load_model(core.Linear(1, 1), path)
    with pytest.raises(ArgumentError, match='ties is "error", "restore" or "copy", not True'):
        load_model(core.Linear(1, 1), path, ties=True)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UnsupportedTypeError, match=r"a model is .*, not int\. For any other, call register_adapter\."):
        save_model(1, path)
    with pytest.raises(UnsupportedTypeError, match=r"For a model use save_model"):
        save_file(core.Linear(1, 1), path)  # pyright: ignore[reportArgumentType]


def test_sharing_that_the_file_stores_differently_is_found_by_its_values(path: Path):
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    save_file({"a": square, "b": square.T}, path)

    class Net(core.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = core.Parameter(np.zeros((3, 3), np.float32))
            self.b = self.a

    with pytest.raises(MismatchError, match=r"different values"):
        load_model(Net(), path)


def test_ties_in_the_file_are_copied_on_request(path: Path):
    weight = np.arange(20.0, dtype=np.float32).reshape(5, 4)
    save_file({"embedding.weight": weight, "head.weight": weight}, path)
    model = Tied(tied=False)
    before = model.embedding.weight, model.head.weight
    assert load_model(model, path, ties="copy") == ([], [])
    assert (model.embedding.weight, model.head.weight) == before
    assert not np.shares_memory(model.embedding.weight.data, model.head.weight.data)
    assert (model.head.weight.data == weight).all()
    assert (model.embedding.weight.data == weight).all()


def test_a_view_in_the_file_is_copied_on_request(path: Path):
    saved, model = Autoencoder(), Autoencoder(tied=False)
    save_model(saved, path)
    load_model(model, path, ties="copy")
    assert (model.decoder.weight.data == saved.encoder.weight.data.T).all()
    assert not np.shares_memory(model.encoder.weight.data, model.decoder.weight.data)


@pytest.mark.parametrize("ties", ["error", "restore", "copy"])
def test_a_tie_of_a_name_that_is_not_loaded_is_ignored(path: Path, ties: Any):
    save_model(Tied(), path)
    model = Tied(tied=False)
    model.head = core.Linear(4, 9, bias=False)  # a new task
    head = model.head.weight.data.copy()
    result = load_model(model, path, strict=False, ties=ties)
    assert result == (["head.weight"], ["head.weight"])
    assert (model.embedding.weight.data == load_file(path)["embedding.weight"]).all()
    assert (model.head.weight.data == head).all()


def test_the_error_about_a_tie_names_every_choice(path: Path):
    save_model(Tied(), path)
    with pytest.raises(MismatchError) as caught:
        load_model(Tied(tied=False), path)
    assert caught.value.advice == (
        'Tie them in the model, or pass ties="restore" to have that done, or ties="copy" to give each its own copy.'
    )
    with pytest.raises(ArgumentError, match=r'^ties is "error", "restore" or "copy", not \'both\'\.$'):
        load_model(Tied(), path, ties="both")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("strict", [True, False])
def test_a_prefix_that_matches_no_name_is_an_error_that_lists_the_prefixes(path: Path, strict: bool):
    save_file({"model.weight": np.ones((2, 3), np.float32), "optimizer.x": np.ones(1)}, path)
    model = core.Linear(3, 2)
    before = values(model)
    with pytest.raises(MismatchError) as caught:
        load_model(model, path, strict=strict, prefix="modle.")
    (problem,) = caught.value.problems
    assert problem.startswith("no name in the file starts with 'modle.': they start with 'model.', 'optimizer.'; ")
    assert problem.endswith("did you mean prefix='model.'?")
    assert list(compare_states(before, values(model))) == []


def test_strict_false_that_would_load_nothing_is_an_error(path: Path):
    save_file({"module.weight": np.ones((2, 3), np.float32), "module.bias": np.ones(2, np.float32)}, path)
    with pytest.raises(MismatchError) as caught:
        load_model(core.Linear(3, 2), path, strict=False)
    assert "no name matches" in str(caught.value)
    assert "load_model(model, file, prefix='module.')" in caught.value.advice


def test_a_prefix_reads_and_checks_only_the_loaded_tensors(path: Path, monkeypatch: pytest.MonkeyPatch):
    moments = np.random.default_rng(0).standard_normal(300_000)
    weight = np.full((2, 3), 7, np.float32)
    tied = {"model.weight": weight, "model.bias": weight[0, :2], "optimizer.0": moments, "optimizer.1": moments[5:]}
    save_file(tied, path)
    content = path.read_bytes()
    at = content.index(moments.tobytes()[:64])
    path.write_bytes(content[:at] + b"x" + content[at + 1 :])
    read, original = [0], FileSource._read_some

    def counting(self: FileSource, offset: int, buffers: Any) -> int:
        read[0] += (count := original(self, offset, buffers))
        return count

    monkeypatch.setattr(FileSource, "_read_some", counting)
    model = core.Linear(3, 2)
    with pytest.raises(MismatchError, match="shares memory"):
        load_model(model, path, prefix="model.")
    load_model(model, path, prefix="model.", ties="copy")
    assert all((array == 7).all() for array in model.state_dict().values())
    assert read[0] < 100_000
    with pytest.raises(CorruptError, match=r"'optimizer\.0'"):
        load_file(path)
