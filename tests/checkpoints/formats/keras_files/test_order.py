"""The tensors of a file of Keras come in its order, although HDF5 sorts the names of links as text."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from statezoo.checkpoints import inspect, load_file
from statezoo.checkpoints.formats.hdf5.order import in_order


def written(path: Path, names: list[str], attributes: dict[str, dict[str, object]] | None = None) -> Path:
    with h5py.File(path, "w") as file:
        for number, name in enumerate(names):
            file[name] = np.full(2, number)
        for group, values in (attributes or {}).items():
            file[group].attrs.update(values)
    return path


def test_numbers_in_the_names_of_keras_3_count_as_numbers(tmp_path: Path):
    layers = [f"layers/dense{f'_{number}' if number else ''}/vars" for number in range(12)]
    names = [*(f"{layer}/{number}" for layer in layers for number in range(2)), *(f"vars/{n}" for n in range(11))]
    path = written(tmp_path / "model.weights.h5", sorted(names, reverse=True))
    assert list(load_file(path)) == [name.replace("/", ".") for name in names]
    assert [tensor.name for tensor in inspect(path).tensors] == list(load_file(path))


def test_a_file_with_other_datasets_keeps_its_order(tmp_path: Path):
    path = written(tmp_path / "x.h5", ["layers/a10/vars/0", "layers/a2/vars/0", "other"])
    assert list(load_file(path)) == ["layers.a10.vars.0", "layers.a2.vars.0", "other"]


@pytest.mark.parametrize("kind", [list, np.array])  # texts of any length, and of the longest one's length
def test_keras_2_lists_the_order_of_layers_and_weights(tmp_path: Path, kind: Any):
    names = ["dense/dense/kernel:0", "dense/dense/bias:0", "conv/conv/kernel:0", "conv/conv/bias:0"]
    attributes: dict[str, dict[str, object]] = {
        "/": {"layer_names": kind([b"input", b"dense", b"conv"])},
        "dense": {"weight_names": kind([b"dense/kernel:0", b"dense/bias:0"])},
        "conv": {"weight_names": kind([b"conv/kernel:0", b"conv/bias:0"])},
    }
    path = written(tmp_path / "x.h5", names, attributes)
    assert list(load_file(path)) == [name.replace("/", ".") for name in names]


def test_a_list_that_keras_2_splits_into_parts_is_read_whole(tmp_path: Path):
    names = [f"layer_{number}/w" for number in (3, 1, 2, 0)]
    attributes: dict[str, dict[str, object]] = {"/": {"layer_names0": [b"layer_3", b"layer_1"]}}
    attributes["/"]["layer_names1"] = [b"layer_2"]
    assert list(load_file(written(tmp_path / "x.h5", names, attributes))) == [n.replace("/", ".") for n in names]


@pytest.mark.parametrize(
    "value", [3, "text", ["a", "b"], [1.0], np.array([[b"b"]]), h5py.Empty("S3"), [b"\xff", b"b/a/b"], [b"x"] * 4000]
)
def test_an_attribute_of_that_name_may_hold_anything(tmp_path: Path, value: object):
    path = written(tmp_path / "x.h5", ["a", "b"])
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = value
    assert sorted(load_file(path)) == ["a", "b"]


def test_names_that_are_listed_but_missing_do_not_matter(tmp_path: Path):
    attributes: dict[str, dict[str, object]] = {"/": {"layer_names": [b"c", b"b", b"b", b"", b"/"]}}
    assert list(load_file(written(tmp_path / "x.h5", ["a/w", "b/w"], attributes))) == ["b.w", "a.w"]


def test_very_long_numbers_are_text():
    links = [(("vars", number), 0) for number in ("9" * 5000, "10", "9")]
    assert [path[1][:2] for path, _ in in_order(links, [])] == ["9", "10", "99"]
