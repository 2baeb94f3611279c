"""merge(): the mean of checkpoints, which keeps ties and views."""

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from statezoo import core as nn
from statezoo.checkpoints import (
    ArgumentError,
    CorruptError,
    MismatchError,
    StateError,
    inspect,
    load_file,
    load_model,
    merge,
    open_checkpoint,
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


def test_values_are_merged_and_rounded_to_their_dtype(files: list[Path], tmp_path: Path):
    merge(files, tmp_path / "mean.h5")
    found, sources = load_file(tmp_path / "mean.h5"), [state(seed) for seed in range(3)]
    for name in ("weight", "low", "high", "half", "scalar"):
        expected = np.mean([source[name].astype(np.float64) for source in sources], axis=0)
        np.testing.assert_array_equal(found[name], expected.astype(found[name].dtype))
        assert found[name].dtype == sources[0][name].dtype
    expected = np.mean([source["spectrum"] for source in sources], axis=0, dtype=np.complex128)
    np.testing.assert_array_equal(found["spectrum"], expected.astype(np.complex64))
    assert verify(tmp_path / "mean.h5").intact


def test_ties_and_views_are_kept_and_shared_memory_is_merged_once(files: list[Path], tmp_path: Path):
    merge(files, tmp_path / "mean.safetensors")
    found = load_file(tmp_path / "mean.safetensors")
    assert list(found) == list(state(0))
    assert found["tied"] is found["weight"]
    np.testing.assert_array_equal(found["view"], found["weight"].T)
    assert np.shares_memory(found["view"], found["weight"])
    assert np.shares_memory(found["low"], found["high"])
    assert found["weight"].max() < 1


def test_everything_but_floating_point_comes_from_the_first_source(files: list[Path], tmp_path: Path):
    merge(files[::-1], tmp_path / "mean.h5")
    found = load_file(tmp_path / "mean.h5")
    assert (int(found["steps"]), found["mask"].tolist(), found["x._extra_state"]) == (2, [True], {"seed": 2})
    assert read_metadata(tmp_path / "mean.h5") == {"seed": "2"}


def test_the_merge_of_a_file_with_itself_is_that_file(files: list[Path], tmp_path: Path, suffix: str):
    merge([files[1], files[1]], tmp_path / f"mean{suffix}")
    assert (tmp_path / f"mean{suffix}").read_bytes() == files[1].read_bytes()


def test_a_tied_model_merges_to_a_tied_model(tmp_path: Path):
    def tied_model(value: float) -> nn.Sequential:
        model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5, bias=False))
        model[0].weight.data[...] = value
        model[1].weight = model[0].weight
        return model

    for value in (1.0, 2.0):
        save_model(tied_model(value), tmp_path / f"{value}.safetensors")
    merge([tmp_path / "1.0.safetensors", tmp_path / "2.0.safetensors"], tmp_path / "mean.safetensors")
    model = tied_model(0)
    load_model(model, tmp_path / "mean.safetensors")
    assert (model[1].weight.data == 1.5).all()
    assert inspect(tmp_path / "mean.safetensors").tensors[1].shares_with == "0.weight"


def test_foreign_files_that_store_ties_under_another_name_are_merged(tmp_path: Path):
    weight = np.ones(3, np.float32)
    save_file({"a": weight, "b": weight}, tmp_path / "ours.h5")
    safetensors.numpy.save_file({"b": 3 * weight}, tmp_path / "theirs.safetensors", {"a": "b"})
    merge([tmp_path / "ours.h5", tmp_path / "theirs.safetensors"], tmp_path / "mean.h5")
    found = load_file(tmp_path / "mean.h5")
    assert found["a"] is found["b"]
    assert found["a"].tolist() == [2, 2, 2]


def test_shards_are_merged(tmp_path: Path):
    for seed in range(2):
        save_file(state(seed), tmp_path / f"{seed}.safetensors", max_shard_size=40)
    merge([tmp_path / "0.safetensors", tmp_path / "1.safetensors.index.json"], tmp_path / "mean.h5")
    expected = (state(0)["weight"].astype(np.float64) + state(1)["weight"]) / 2
    np.testing.assert_array_equal(load_file(tmp_path / "mean.h5")["weight"], expected.astype(np.float32))


def test_the_file_may_be_one_of_the_sources(files: list[Path], tmp_path: Path):
    merge(files, tmp_path / "mean.h5")
    merge(files, files[0])
    np.testing.assert_array_equal(load_file(files[0])["weight"], load_file(tmp_path / "mean.h5")["weight"])


def test_every_difference_is_listed_and_nothing_is_written(files: list[Path], tmp_path: Path):
    other = state(1)
    other |= {"new": np.ones(1), "half": other["half"].astype(np.float32), "low": other["low"].copy()}
    other["scalar"] = np.ones(2)
    del other["mask"]
    save_file(other, files[1])
    with pytest.raises(MismatchError) as caught:
        merge(files, tmp_path / "mean.h5")
    first, second = files[:2]
    assert str(caught.value) == (
        f"{second} does not fit {first}; nothing was changed.\n"
        f"  mask  is only in {first}\n"
        f"  new  is only in {second}\n"
        f"  half  is BF16 [5] in {first}, F32 [5] in {second}\n"
        f"  scalar  is F64 [] in {first}, F64 [2] in {second}\n"
        f"  high  is tied to low in {first}, not tied to it in {second}\n"
        "Merge checkpoints of one architecture, saved in the same way."
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
        merge([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "mean.h5")


def test_memory_that_holds_floats_and_integers_is_refused(tmp_path: Path):
    weight = np.ones(4, np.float32)
    save_file({"weight": weight, "bits": weight.view(np.int32)}, tmp_path / "a.h5")
    with pytest.raises(StateError, match=r"'bits' \(I32\), 'weight' \(F32\) share memory in .*a.h5 as different"):
        merge([tmp_path / "a.h5"], tmp_path / "mean.h5")


@pytest.mark.parametrize("sources", [[], "a.h5", Path("a.h5")])
def test_anything_but_a_list_of_files_is_refused(sources: Any):
    with pytest.raises(ArgumentError, match="takes a list of files"):
        merge(sources, "mean.h5")


def test_a_damaged_source_is_named_and_the_target_is_unchanged(files: list[Path], tmp_path: Path):
    data = bytearray(files[1].read_bytes())
    data[data.index(state(1)["weight"].tobytes())] ^= 1
    files[1].write_bytes(data)
    (tmp_path / "mean.h5").write_bytes(b"before")
    with pytest.raises(CorruptError, match=rf"{files[1].name} is damaged(.|\n)*'weight'"):
        merge(files, tmp_path / "mean.h5")
    assert (tmp_path / "mean.h5").read_bytes() == b"before"


def test_only_one_tensor_at_a_time_is_in_memory(tmp_path: Path):
    for seed in range(2):
        save_file({f"w{n}": np.full(1 << 18, seed, np.float32) for n in range(16)}, tmp_path / f"{seed}.h5")
    seen: list[int] = []
    tracemalloc.start()
    merge([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "mean.h5", progress=seen.append)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(seen) == 16 << 20
    assert peak < 8 << 20


# --- weights and methods

FLOATS = ("weight", "low", "high", "half", "scalar")


def test_weights_weigh_the_average(files: list[Path], tmp_path: Path):
    merge(files, tmp_path / "mean.h5", weights=[1, 2.5, 0.5])
    found, sources = load_file(tmp_path / "mean.h5"), [state(seed) for seed in range(3)]
    for name in FLOATS:
        expected = np.average([s[name].astype(np.float64) for s in sources], axis=0, weights=[1, 2.5, 0.5])
        np.testing.assert_allclose(found[name].astype(float), expected.astype(found[name].dtype).astype(float), 1e-6)


def test_a_sum_is_weighted_and_not_divided(files: list[Path], tmp_path: Path):
    merge(files, tmp_path / "sum.h5", weights=[1, -1, 0.5], method="sum")
    merge(files[:2], tmp_path / "plain.h5", method="sum")
    found, plain, (a, b, c) = load_file(tmp_path / "sum.h5"), load_file(tmp_path / "plain.h5"), map(state, range(3))
    assert found["low"].tolist() == (a["low"] - b["low"] + 0.5 * c["low"]).tolist()
    assert plain["low"].tolist() == (a["low"] + b["low"]).tolist()
    assert np.shares_memory(found["low"], found["high"])
    assert int(found["steps"]) == 0


def test_a_difference_adds_what_each_model_has_changed_in_the_base(files: list[Path], tmp_path: Path):
    merge(files, tmp_path / "both.h5", weights=[0.25, -2], method="difference")
    merge(files[:2], tmp_path / "second.h5", method="difference")
    found, (base, a, b) = load_file(tmp_path / "both.h5"), map(state, range(3))
    expected = base["low"] + (0.25 * (a["low"] - base["low"]) + -2 * (b["low"] - base["low"]))
    assert found["low"].tolist() == expected.tolist()
    assert found["tied"] is found["weight"]
    np.testing.assert_allclose(load_file(tmp_path / "second.h5")["low"], a["low"], rtol=1e-12)


def test_a_difference_without_changes_is_the_base_bit_for_bit(path: Path, tmp_path: Path):
    values = np.array([-0.0, 0.0, 5e-324, 1 / 3, -np.inf])[:4]
    save_file({"a": values, "b": values.astype(ml_dtypes.bfloat16)}, path)
    merge([path] * 3, tmp_path / path.name.replace("state", "out"), method="difference", weights=[0.3, 7])
    assert (tmp_path / path.name.replace("state", "out")).read_bytes() == path.read_bytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seeds=st.lists(st.integers(0, 99), min_size=2, max_size=4),
    weights=st.lists(st.floats(-4, 4), min_size=4, max_size=4),
    dtype=st.sampled_from(["<f2", "<f4", "<f8", ">f4", ml_dtypes.bfloat16]),
    method=st.sampled_from(["average", "sum", "difference"]),
)
def test_any_merge_is_what_numpy_computes_in_float64(
    tmp_path: Path, seeds: list[int], weights: list[float], dtype: Any, method: Any
):
    states = [np.random.default_rng(seed).normal(size=(3, 50)).astype(dtype) for seed in seeds]
    for number, array in enumerate(states):
        save_file({"w": array, "t": array.T}, tmp_path / f"{number}.safetensors")
    weights = weights[: len(seeds) - (method == "difference")]
    total = sum(weights)
    assume(method != "average" or abs(total) > 0.1)
    paths = [tmp_path / f"{number}.safetensors" for number in range(len(seeds))]
    merge(paths, tmp_path / "out.h5", weights=weights, method=method)
    values = [array.astype(np.float64) for array in states]
    if method == "difference":
        expected = values[0] + np.sum([w * (x - values[0]) for w, x in zip(weights, values[1:], strict=True)], axis=0)
    else:
        summed = np.sum([w * x for w, x in zip(weights, values, strict=True)], axis=0)
        expected = summed / total if method == "average" else summed
    found = load_file(tmp_path / "out.h5")
    assert found["w"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found["w"], expected.astype(dtype))
    assert np.shares_memory(found["t"], found["w"])


def test_open_checkpoints_are_merged_and_stay_open(files: list[Path], tmp_path: Path):
    with open_checkpoint(files[0]) as first, open_checkpoint(files[1]) as second:
        merge([first, second, files[2]], tmp_path / "opened.h5")
        assert second["low"][0] == state(1)["low"][0]
    merge(files, tmp_path / "paths.h5")
    assert (tmp_path / "opened.h5").read_bytes() == (tmp_path / "paths.h5").read_bytes()


def test_files_in_memory_are_merged(files: list[Path], tmp_path: Path):
    with open(files[1], "rb") as second:
        merge([files[0].read_bytes(), second], tmp_path / "out.h5")
    assert load_file(tmp_path / "out.h5")["low"][0] == (state(0)["low"][0] + state(1)["low"][0]) / 2


def test_the_differences_of_all_files_are_listed_in_one_error(files: list[Path], tmp_path: Path):
    for path, name in zip(files[1:], ("x", "y"), strict=True):
        save_file(state(1) | {name: np.ones(1)}, path)
    with pytest.raises(MismatchError) as caught:
        merge(files, tmp_path / "out.h5")
    assert str(caught.value) == (
        f"each of {files[1]}, {files[2]} does not fit {files[0]}; nothing was changed.\n"
        f"  x  is only in {files[1]}\n"
        f"  y  is only in {files[2]}\n"
        "Merge checkpoints of one architecture, saved in the same way."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1]}, r"weights has 1 numbers, and 3 are needed: one for each file\."),
        (
            {"weights": [1, 2, 3], "method": "difference"},
            "weights has 3 numbers, and 2 are needed: one for each file but",
        ),
        ({"weights": [1, "x", 3]}, "weights is a list of numbers"),
        ({"weights": 3}, "weights is a list of numbers"),
        ({"weights": [1, np.nan, 3]}, "weights are finite numbers"),
        ({"weights": [1, -2, 1]}, r'must not add up to 0\. Use method="sum" or "difference"'),
        ({"method": "median"}, "method is one of 'average', 'sum', 'difference', 'lora', not 'median'"),
    ],
)
def test_weights_and_methods_that_do_not_fit_are_refused(
    arguments: dict[str, Any], message: str, files: list[Path], tmp_path: Path
):
    with pytest.raises(ArgumentError, match=message):
        merge(files, tmp_path / "out.h5", **arguments)
    assert not (tmp_path / "out.h5").exists()


def test_a_difference_needs_another_file_than_the_base(files: list[Path], tmp_path: Path):
    with pytest.raises(ArgumentError, match="takes a base and one or more other files"):
        merge(files[:1], tmp_path / "out.h5", method="difference")


@pytest.mark.parametrize("tensors", [0, 2, 6])
def test_an_interrupted_merge_leaves_the_old_file_and_nothing_else(tensors: int, files: list[Path], tmp_path: Path):
    before, names = files[0].read_bytes(), sorted(os.listdir(tmp_path))
    calls = iter(range(tensors))

    def interrupt(_: int) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(files, files[0], progress=interrupt)
    assert files[0].read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == names


@pytest.mark.skipif(sys.platform != "linux", reason="needs the limits of Linux")
def test_files_larger_than_the_memory_are_merged(tmp_path: Path):
    for number in range(2):
        save_file(
            {f"w{n}": np.full(1 << 20, number, np.float32) for n in range(40)}, tmp_path / f"{number}.safetensors"
        )
    program = (
        "import resource, sys; from statezoo.checkpoints import merge\n"
        "import statezoo.checkpoints.tools.rewrite.merging\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)\n"
        "merge(sys.argv[1:3], sys.argv[3])\n"
    )
    paths = [str(tmp_path / name) for name in ("0.safetensors", "1.safetensors", "out.safetensors")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True)
    assert load_file(paths[2])["w39"][5] == 0.5
