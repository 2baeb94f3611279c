"""What torch saves is loaded as torch.load(weights_only=True) loads it: values, ties, views and strides."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import (
    CorruptError,
    FormatError,
    convert,
    diff,
    fingerprint,
    load_file,
    load_model,
    open_checkpoint,
    save_file,
    verify,
)
from statezoo.checkpoints.state.sharing import repeats_elements
from statezoo.core import Linear, Sequential

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:Detected pickle protocol")]

DTYPES = [
    *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "bfloat16"),
    *("float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"),
]


def raw(tensor: Any) -> bytes:
    """Return the bytes of the values of a tensor of any dtype, in C order."""
    values = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    return values.view(torch.uint8).numpy().tobytes() if values.numel() else b""


def strides(array: np.ndarray) -> list[int]:
    """Return the strides in elements, with 0 for axes of length 1, whose strides mean nothing."""
    return [step // array.itemsize if n > 1 else 0 for step, n in zip(array.strides, array.shape, strict=True)]


@st.composite
def tensors(draw: st.DrawFn) -> list[Any]:
    """Return tensors of some storages: whole, and parts of them with any offset, size and strides."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        dtype = getattr(torch, draw(st.sampled_from(DTYPES)))
        count = draw(st.integers(0, 24))
        content = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        if dtype == torch.bool:
            content = bytes(byte & 1 for byte in content)
        base = torch.tensor(list(content), dtype=torch.uint8).view(dtype)
        found.append(base)
        for _ in range(draw(st.integers(0, 4))):
            shape = draw(st.lists(st.integers(0, 4), max_size=3))
            steps = [draw(st.integers(0, 6)) for _ in shape]
            span = sum(step * (n - 1) for step, n in zip(steps, shape, strict=True) if n)
            if 0 not in shape and span < count:
                offset = draw(st.integers(0, count - span - 1))
                part = base.as_strided(shape, steps, offset)
                if dtype.is_complex and draw(st.booleans()):
                    part = part.conj()
                found.append(torch.nn.Parameter(part, requires_grad=False) if draw(st.booleans()) else part)
    return found


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """Return nested dicts and lists of tensors, some of them in several places, and other values."""
    found = draw(tensors())
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    leaves = st.sampled_from(found) | plain
    keys = st.text(st.characters(exclude_characters=".", codec="utf-8"), min_size=1, max_size=3)
    nested = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
    return {f"t{number}": tensor for number, tensor in enumerate(found)} | {"more": draw(nested)}


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the values in nested dicts and lists by name."""
    if isinstance(value, list | tuple | dict) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {n: v for key, item in items for n, v in flat(item, f"{name}.{key}" if name else str(key)).items()}
    return {name: value}


@given(states(), st.sampled_from([2, 3, 4, 5]), st.sampled_from([False, True, "c"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_any_state_is_loaded_as_torch_loads_it(tmp_path: Path, state: dict[str, Any], protocol: int, mmap: Any):
    path = tmp_path / "x.pt"
    torch.save(state, path, pickle_protocol=protocol)
    expected, loaded = flat(torch.load(path, weights_only=protocol < 4)), load_file(path, mmap=mmap)
    assert list(loaded) == list(expected)
    shared = {}
    for name, tensor in expected.items():
        if not isinstance(tensor, torch.Tensor):
            assert loaded[name] == tensor
            assert type(loaded[name]) is type(tensor)
            continue
        array = loaded[name]
        assert (list(array.shape), array.tobytes()) == (list(tensor.shape), raw(tensor))
        if tensor.numel() and not tensor.is_conj():
            assert strides(array) == [s if n > 1 else 0 for s, n in zip(tensor.stride(), tensor.shape, strict=True)]
            shared[name] = (tensor, array)
    for (_, (one, first)), (_, (other, second)) in itertools.combinations(shared.items(), 2):
        distance = other.data_ptr() - one.data_ptr()
        is_one_storage = one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
        if is_one_storage and np.shares_memory(first, second):
            assert second.__array_interface__["data"][0] - first.__array_interface__["data"][0] == distance
            if distance == 0 and strides(first) == strides(second) and first.shape == second.shape:
                assert first is second
        else:
            assert is_one_storage or not np.shares_memory(first, second)
            assert not _overlap(one, other)
    assert verify(path).intact


def _overlap(one: Any, other: Any) -> bool:
    """Return True if two tensors of torch have a byte in common."""
    return np.shares_memory(_addresses(one), _addresses(other))


def _addresses(tensor: Any) -> np.ndarray:
    size = tensor.element_size()
    interface = {
        "version": 3,
        "typestr": f"|V{size}",
        "shape": tuple(tensor.shape),
        "strides": tuple(step * size for step in tensor.stride()),
        "data": (tensor.data_ptr(), True),
    }
    return np.asarray(type("Addresses", (), {"__array_interface__": interface})())


@given(states())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
def test_any_state_converts_to_what_a_save_of_the_loaded_arrays_gives(tmp_path: Path, state: dict[str, Any]):
    path, out = tmp_path / "x.pt", tmp_path / "x.h5"
    torch.save(state, path)
    convert(path, out)
    assert diff(path, out).same
    assert fingerprint(path) == fingerprint(out)
    loaded, converted = load_file(path), load_file(out)
    assert list(converted) == list(loaded)
    arrays = {name: value for name, value in loaded.items() if isinstance(value, np.ndarray)}
    for name, array in arrays.items():
        assert converted[name].tobytes() == array.tobytes()
    if not any(map(repeats_elements, arrays.values())) and len(arrays) == len(loaded):
        assert fingerprint(arrays) == fingerprint(out)


def test_a_model_with_its_optimizer_is_read_as_torch_reads_it(tmp_path: Path):
    model = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    model(torch.randn(2, 3, 8)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 1,
        "state_dict": model.to(memory_format=torch.preserve_format).state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule.state_dict()],
        "rng": torch.get_rng_state(),
    }
    torch.save(checkpoint, tmp_path / "x.ckpt")
    expected, loaded = flat(torch.load(tmp_path / "x.ckpt", weights_only=True)), load_file(tmp_path / "x.ckpt")
    assert list(loaded) == list(expected)
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert loaded[name].tobytes() == raw(value), name
        else:
            assert loaded[name] == value
    assert float(loaded["lr_schedulers.0.best"]) == float("inf")


def test_a_state_dict_loads_into_the_same_model_written_here(tmp_path: Path):
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    torch.save(theirs.state_dict(), tmp_path / "x.pt")
    torch.save({"model": theirs.state_dict(), "epoch": 1}, tmp_path / "y.pt")
    x = np.ones((1, 4), np.float32)
    for file, prefix in (("x.pt", ""), ("y.pt", "model.")):
        ours = Sequential(Linear(4, 3), Linear(3, 2))
        assert load_model(ours, tmp_path / file, prefix=prefix) == ([], [])
        np.testing.assert_allclose(ours(x).data, theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_channels_last_weights_are_mapped_with_their_strides_and_convert_to_plain_tensors(tmp_path: Path):
    model = torch.nn.Conv2d(3, 4, 2).to(memory_format=torch.channels_last)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    mapped = load_file(tmp_path / "x.pt", mmap=True)
    assert not mapped["weight"].flags.owndata
    assert strides(mapped["weight"]) == list(model.weight.stride())
    convert(tmp_path / "x.pt", tmp_path / "x.safetensors")
    import safetensors.torch

    assert safetensors.torch.load_file(tmp_path / "x.safetensors")["weight"].equal(model.weight)


def test_the_file_keeps_its_values_when_it_is_copied_by_an_open_checkpoint(tmp_path: Path):
    torch.save({"w": torch.ones(3), "lr": 0.1, "best": float("nan")}, tmp_path / "x.pt")
    with open_checkpoint(tmp_path / "x.pt") as checkpoint:
        save_file(checkpoint, tmp_path / "x.safetensors", {"from": "torch"})
    loaded = load_file(tmp_path / "x.safetensors")
    assert list(loaded) == ["w", "lr", "best"]
    assert (loaded["lr"], np.isnan(loaded["best"])) == (0.1, True)


def test_names_of_the_folder_in_the_archive_may_be_any(tmp_path: Path):
    for name in ("模型 état.pt", "a b.c.bin", "x"):
        torch.save({"w": torch.ones(3)}, tmp_path / name)
        assert load_file((tmp_path / name).read_bytes())["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("number", [0, 1], ids=["keys of two types", "a dot in a key"])
def test_two_values_of_one_name_are_an_error_that_says_to_rename_one(tmp_path: Path, number: int):
    one = torch.ones(1)
    torch.save([{1: one, "1": one}, {"a.b": one, "a": {"b": one}}][number], tmp_path / "x.pt")
    with pytest.raises(FormatError, match=r"two of its values have the name .*torch\.load.* rename one") as caught:
        load_file(tmp_path / "x.pt")
    assert not isinstance(caught.value, CorruptError)
