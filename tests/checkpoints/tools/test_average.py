"""average(): the mean of checkpoints, which keeps ties and views."""

import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from statezoo import core as nn
from statezoo.checkpoints import (
    ArgumentError,
    CorruptError,
    MismatchError,
    StateError,
    average,
    inspect,
    load_file,
    load_model,
    read_metadata,
    save_file,
    save_model,
    verify,
)


def state(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    weight, parts = rng.random((3, 4), np.float32), rng.random(10)
    return {
        "weight": weight,
        "tied": weight,
        "view": weight.T,
        "low": parts[:6],
        "high": parts[4:],
        "half": rng.random(5).astype(ml_dtypes.bfloat16),
        "spectrum": (rng.random(3) + 1j * rng.random(3)).astype(np.complex64),
        "scalar": np.array(rng.random()),
        "empty": np.zeros((0, 2)),
        "steps": np.array(seed),
        "mask": np.array([seed % 2 == 0]),
        "x._extra_state": {"seed": seed},
    }


@pytest.fixture
def files(tmp_path: Path, suffix: str) -> list[Path]:
    paths = [tmp_path / f"{seed}{suffix}" for seed in range(3)]
    for seed, path in enumerate(paths):
        save_file(state(seed), path, {"seed": str(seed)})
    return paths


def test_values_are_averaged_and_rounded_to_their_dtype(files: list[Path], tmp_path: Path):
    average(files, tmp_path / "mean.h5")
    found, sources = load_file(tmp_path / "mean.h5"), [state(seed) for seed in range(3)]
    for name in ("weight", "low", "high", "half", "scalar"):
        expected = np.mean([source[name].astype(np.float64) for source in sources], axis=0)
        np.testing.assert_array_equal(found[name], expected.astype(found[name].dtype))
        assert found[name].dtype == sources[0][name].dtype
    expected = np.mean([source["spectrum"] for source in sources], axis=0, dtype=np.complex128)
    np.testing.assert_array_equal(found["spectrum"], expected.astype(np.complex64))
    assert verify(tmp_path / "mean.h5").intact


def test_ties_and_views_are_kept_and_shared_memory_is_averaged_once(files: list[Path], tmp_path: Path):
    average(files, tmp_path / "mean.safetensors")
    found = load_file(tmp_path / "mean.safetensors")
    assert list(found) == list(state(0))
    assert found["tied"] is found["weight"]
    np.testing.assert_array_equal(found["view"], found["weight"].T)
    assert np.shares_memory(found["view"], found["weight"])
    assert np.shares_memory(found["low"], found["high"])
    assert found["weight"].max() < 1


def test_everything_but_floating_point_comes_from_the_first_source(files: list[Path], tmp_path: Path):
    average(files[::-1], tmp_path / "mean.h5")
    found = load_file(tmp_path / "mean.h5")
    assert (int(found["steps"]), found["mask"].tolist(), found["x._extra_state"]) == (2, [True], {"seed": 2})
    assert read_metadata(tmp_path / "mean.h5") == {"seed": "2"}


def test_the_average_of_a_file_with_itself_is_that_file(files: list[Path], tmp_path: Path, suffix: str):
    average([files[1], files[1]], tmp_path / f"mean{suffix}")
    assert (tmp_path / f"mean{suffix}").read_bytes() == files[1].read_bytes()


def test_a_tied_model_averages_to_a_tied_model(tmp_path: Path):
    def tied_model(value: float) -> nn.Sequential:
        model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
        model[0].weight.data[...] = value
        model[1].weight = model[0].weight
        return model

    for value in (1.0, 2.0):
        save_model(tied_model(value), tmp_path / f"{value}.safetensors")
    average([tmp_path / "1.0.safetensors", tmp_path / "2.0.safetensors"], tmp_path / "mean.safetensors")
    model = tied_model(0)
    load_model(model, tmp_path / "mean.safetensors")
    assert (model[1].weight.data == 1.5).all()
    assert inspect(tmp_path / "mean.safetensors").tensors[1].shares_with == "0.weight"


def test_foreign_files_that_store_ties_under_another_name_are_averaged(tmp_path: Path):
    weight = np.ones(3, np.float32)
    save_file({"a": weight, "b": weight}, tmp_path / "ours.h5")
    safetensors.numpy.save_file({"b": 3 * weight}, tmp_path / "theirs.safetensors", {"a": "b"})
    average([tmp_path / "ours.h5", tmp_path / "theirs.safetensors"], tmp_path / "mean.h5")
    found = load_file(tmp_path / "mean.h5")
    assert found["a"] is found["b"]
    assert found["a"].tolist() == [2, 2, 2]


def test_shards_are_averaged(tmp_path: Path):
    for seed in range(2):
        save_file(state(seed), tmp_path / f"{seed}.safetensors", max_shard_size=40)
    average([tmp_path / "0.safetensors", tmp_path / "1.safetensors.index.json"], tmp_path / "mean.h5")
    expected = (state(0)["weight"].astype(np.float64) + state(1)["weight"]) / 2
    np.testing.assert_array_equal(load_file(tmp_path / "mean.h5")["weight"], expected.astype(np.float32))


def test_the_file_may_be_one_of_the_sources(files: list[Path], tmp_path: Path):
    average(files, tmp_path / "mean.h5")
    average(files, files[0])
    np.testing.assert_array_equal(load_file(files[0])["weight"], load_file(tmp_path / "mean.h5")["weight"])


def test_every_difference_is_listed_and_nothing_is_written(files: list[Path], tmp_path: Path):
    other = state(1)
    other |= {"new": np.ones(1), "half": other["half"].astype(np.float32), "low": other["low"].copy()}
    other["scalar"] = np.ones(2)
    del other["mask"]
    save_file(other, files[1])
    with pytest.raises(MismatchError) as caught:
        average(files, tmp_path / "mean.h5")
    first, second = files[:2]
    assert str(caught.value) == (
        f"{second} does not fit {first}; nothing was changed.\n"
        f"  mask  is only in {first}\n"
        f"  new  is only in {second}\n"
        f"  half  is BF16 [5] in {first}, F32 [5] in {second}\n"
        f"  scalar  is F64 [] in {first}, F64 [2] in {second}\n"
        f"  high  is tied to low in {first}, not tied to it in {second}\n"
        "Average checkpoints of one architecture, saved in the same way."
    )
    assert not (tmp_path / "mean.h5").exists()


@pytest.mark.parametrize(
    "other",
    [
        lambda w: {"a": w.reshape(6), "b": w[::-1].reshape(6)[:3]},
        lambda w: {"a": w.reshape(3, 2).T, "b": w},
    ],
    ids=["another part", "another order"],
)
def test_a_different_arrangement_of_shared_memory_is_refused(tmp_path: Path, other: Any):
    memory = np.arange(6.0)
    first = {name: array.copy() for name, array in other(memory).items()}
    first["b"] = first["a"].reshape(-1)[: first["b"].size].reshape(first["b"].shape)
    save_file(first, tmp_path / "a.h5")
    save_file(other(memory), tmp_path / "b.h5")
    with pytest.raises(MismatchError, match=r"[ab]  (shares|is)"):
        average([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "mean.h5")


def test_memory_that_holds_floats_and_integers_is_refused(tmp_path: Path):
    weight = np.ones(4, np.float32)
    save_file({"weight": weight, "bits": weight.view(np.int32)}, tmp_path / "a.h5")
    with pytest.raises(StateError, match=r"'bits' \(I32\), 'weight' \(F32\) share memory in .*a.h5 as different"):
        average([tmp_path / "a.h5"], tmp_path / "mean.h5")


@pytest.mark.parametrize("sources", [[], "a.h5", Path("a.h5")])
def test_anything_but_a_list_of_files_is_refused(sources: Any):
    with pytest.raises(ArgumentError, match="takes a list of one or more files"):
        average(sources, "mean.h5")


def test_a_damaged_source_is_named_and_the_target_is_unchanged(files: list[Path], tmp_path: Path):
    data = bytearray(files[1].read_bytes())
    data[data.index(state(1)["weight"].tobytes())] ^= 1
    files[1].write_bytes(data)
    (tmp_path / "mean.h5").write_bytes(b"before")
    with pytest.raises(CorruptError, match=rf"{files[1].name} is damaged(.|\n)*'weight'"):
        average(files, tmp_path / "mean.h5")
    assert (tmp_path / "mean.h5").read_bytes() == b"before"


def test_only_one_tensor_at_a_time_is_in_memory(tmp_path: Path):
    for seed in range(2):
        save_file({f"w{n}": np.full(1 << 18, seed, np.float32) for n in range(16)}, tmp_path / f"{seed}.h5")
    seen: list[int] = []
    tracemalloc.start()
    average([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "mean.h5", progress=seen.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(seen) == 16 << 20
    assert peak < 8 << 20
