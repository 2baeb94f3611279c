"""core.save and core.load: objects of tensors and values in one file, whatever its suffix."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statezoo import core
from statezoo.checkpoints import CheckpointError, CorruptError, load_file, load_model, save_file, verify
from statezoo.core import nn, optim

SUFFIXES = [".pt", ".pth", ".tar", ".bin", ".ckpt", "", ".safetensors", ".h5", ".npz", ".v2.pt"]


def trained() -> tuple[nn.Module, optim.Optimizer, core.Tensor]:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    loss = (model(core.randn(8, 3)) ** 2).mean()
    loss.backward()
    optimizer.step()
    return model, optimizer, loss


def same(one: Any, other: Any) -> bool:
    """Return True if two objects have the same nesting, types and values."""
    if isinstance(one, core.Tensor | np.ndarray):
        one, other = (np.asarray(value) if isinstance(value, core.Tensor) else value for value in (one, other))
        return type(one) is type(other) and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_and_its_optimizer_go_on_from_a_file_with_any_suffix(tmp_path: Path, suffix: str):
    model, optimizer, loss = trained()
    path = tmp_path / f"checkpoint{suffix}"
    checkpoint = {
        "epoch": 3, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
        "loss": loss, "best": float("inf"), "history": [(0, 0.5), (1, 0.25)], 7: None, "name": "run",
        True: np.float32(0.5),
    }  # fmt: skip
    core.save(checkpoint, path)
    loaded = core.load(path, map_location=core.device("cpu"), weights_only=True)
    other, again, _ = trained()
    other.load_state_dict(loaded["model_state_dict"])
    again.load_state_dict(loaded["optimizer_state_dict"])
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert again.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    assert loaded["optimizer_state_dict"]["param_groups"][0]["betas"] == (0.9, 0.999)
    assert list(loaded["optimizer_state_dict"]["state"]) == [0, 1, 2, 3, 4, 5]
    assert loaded["loss"].item() == loss.item()
    assert loaded["model_state_dict"]["0.weight"].clone().shape == (4, 3)
    for key in ("epoch", "best", "history", 7, "name", True):
        assert same(loaded[key], checkpoint[key])


def test_a_state_dict_is_the_file_that_save_file_writes(tmp_path: Path):
    model, *_ = trained()
    core.save(model.state_dict(), tmp_path / "a.pt")
    save_file(model.state_dict(), tmp_path / "b.safetensors")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert not verify(tmp_path / "a.pt").damaged
    model.load_state_dict(core.load(str(tmp_path / "a.pt")))
    assert load_model(model, tmp_path / "a.pt").missing_keys == []


def test_the_other_functions_read_the_tensors_of_a_checkpoint(tmp_path: Path):
    model, optimizer, _ = trained()
    core.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, tmp_path / "a.ckpt")
    state = load_file(tmp_path / "a.ckpt")
    assert list(state)[:2] == ["model.0.weight", "model.0.bias"]
    assert "optimizer.state.0.exp_avg" in state
    load_model(model, tmp_path / "a.ckpt", prefix="model.")
    core.save(model.state_dict(), tmp_path / "a.tar")
    with pytest.raises(CheckpointError, match=r"names no format.*in the safetensors format\. Rename it"):
        load_file(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "value",
    [core.ones(2, 3), [core.ones(2), core.zeros(1)], (core.ones(1), {"a": core.ones(2)}), {}, [], (), 3, None, "text",
     {"a.b": core.ones(1), "a": {"b": core.zeros(1)}}, {"array": np.arange(3), "tensor": core.ones(1)},
     {"x": core.ones(2, dtype=core.float16), "y": core.tensor(True), "z": core.arange(3)}, [[[]]], {"$dict": 1},
     {"": core.ones(1)}, {"generator": core.Generator().get_state()}, [float("nan"), -0.0, 10**30]],
)  # fmt: skip
def test_an_object_comes_back_as_it_was(value: Any):
    file = io.BytesIO()
    core.save(value, file)
    file.seek(0)
    assert same(core.load(file), value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"))
        | st.lists(st.floats(width=32), max_size=3).map(lambda values: core.tensor(np.array(values, np.float32))),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(-9, 9) | st.booleans() | st.none(), inner),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_object_comes_back_as_it_was(value: Any):
    test_an_object_comes_back_as_it_was(value)


def test_tensors_that_share_memory_share_it_again(tmp_path: Path):
    weight = core.ones(4, 4)
    core.save({"a": weight, "inner": [weight, weight.T], "copy": weight.clone()}, tmp_path / "a.pt")
    loaded = core.load(tmp_path / "a.pt")
    loaded["a"].data[0, 1] = 5
    assert loaded["inner"][0][0, 1].item() == loaded["inner"][1][1, 0].item() == 5
    assert loaded["copy"][0, 1].item() == 1


def test_arguments_of_torch_are_accepted_and_other_devices_refused(tmp_path: Path):
    core.save(core.ones(3), tmp_path / "a.pt")
    for map_location in (None, "cpu", core.device("cpu"), lambda storage, location: storage, {"cuda:0": "cpu"}):
        assert core.load(tmp_path / "a.pt", map_location, weights_only=False).shape == (3,)
    mapped = core.load(tmp_path / "a.pt", mmap=True)
    mapped += 1
    assert core.load(tmp_path / "a.pt").sum().item() == 3
    with pytest.raises(core.ArgumentError, match="there is no device 'cuda'"):
        core.load(tmp_path / "a.pt", map_location="cuda")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (nn.Linear(1, 1), r"the object is a Linear, which only a pickle could hold\. Save its state_dict\(\) instead"),
        ({"a": [nn.ReLU()]}, r"a\.0 is a ReLU"),
        ({"a": object()}, r"a is <object .*which a file cannot hold exactly"),
        ({"a": {1, 2}}, r"a is \{1, 2\} \(set\)"),
        ({(1, 2): 3}, r"the object has the key \(1, 2\)\. Use texts, numbers, bools or None"),
        ({"a": {1 << 60: 3}}, r"a has the key 1152921504606846976"),
    ],
)
def test_an_object_that_no_file_can_hold_is_an_error_and_leaves_the_file(tmp_path: Path, value: Any, text: str):
    core.save(1, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=text):
        core.save(value, tmp_path / "a.pt")
    assert core.load(tmp_path / "a.pt") == 1


def test_an_object_that_contains_itself_is_an_error(tmp_path: Path):
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CheckpointError, match="nested too deeply, or contains itself"):
        core.save(endless, tmp_path / "a.pt")


def test_metadata_of_the_users_own_does_not_matter(tmp_path: Path):
    save_file({"x": np.ones(1)}, tmp_path / "a.safetensors", {"object": "cat"})
    assert core.load(tmp_path / "a.safetensors")["x"].item() == 1


def test_a_missing_file_is_the_error_of_python(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        core.load(tmp_path / "none.pt")


def test_a_flipped_bit_and_a_pickle_are_errors(tmp_path: Path):
    path = tmp_path / "a.pt"
    core.save({"epoch": 1, "x": core.ones(100)}, path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match="'x'"):
        core.load(path)
    path.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(CorruptError, match="is a Python pickle, which is never loaded"):
        core.load(path)


@pytest.mark.parametrize(
    "text", ["", "[", '{"$tensor": "y"}', '{"$dict": [[[1], 2]]}', '{"$dict": 3}', '{"a": 1, "b": 2}', '{"$what": 1}',
             '{"$array": 1}', f'{{"$dict": [[{1 << 70}, 1]]}}', "[" * 100_000],
)  # fmt: skip
def test_an_entry_that_save_does_not_write_is_an_error(tmp_path: Path, text: str):
    save_file({"x": np.ones(1)}, tmp_path / "a.safetensors", {"statezoo.object": text})
    with pytest.raises(
        CorruptError, match=r"has no valid object in the entry 'statezoo\.object' of its metadata\. Load its"
    ):
        core.load(tmp_path / "a.safetensors")


@pytest.mark.torch
def test_a_file_of_torch_loads_with_its_nesting(tmp_path: Path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    path = tmp_path / "model.tar"
    saved = {
        "epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "tied": model.weight.detach(),
        5: (1, 2.5, float("inf"), None), "loss": torch.tensor(2.0), "list": [torch.ones(1), "text"], "empty": {},
    }  # fmt: skip
    torch.save(saved, path)
    loaded = core.load(path)
    assert list(loaded) == list(saved)
    assert (loaded["epoch"], loaded[5], loaded["list"][1], loaded["empty"]) == (3, saved[5], "text", {})
    ours = core.Linear(2, 3)
    ours.load_state_dict(loaded["model"])
    optim.Adam(ours.parameters()).load_state_dict(loaded["optimizer"])
    assert loaded["tied"] is loaded["model"]["weight"]
    assert loaded["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    np.testing.assert_array_equal(
        np.asarray(loaded["optimizer"]["state"][0]["exp_avg"]), optimizer.state[model.weight]["exp_avg"]
    )
    torch.save(torch.ones(2), path)
    assert core.load(path).shape == (2,)
    torch.save(model, path)
    with pytest.raises(CheckpointError):
        core.load(path)


def test_core_imports_the_checkpoint_library_only_when_something_is_saved(tmp_path: Path):
    program = (
        "import sys; from statezoo import core; assert 'statezoo.checkpoints' not in sys.modules; "
        f"core.save(1, {os.fspath(tmp_path / 'a.pt')!r}); assert 'statezoo.checkpoints' in sys.modules"
    )
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", program], check=True)
