"""Verification finds what has changed since an entry was published."""

import json
from pathlib import Path

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file, save_file
from statezoo.zoo.entry import describe_files


def republish_hashes(entry: Path) -> None:
    """Make the manifest agree with changed files, so that only the content can give the change away."""
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = describe_files(entry, list(manifest["files"]))
    path.write_text(json.dumps(manifest))


def results(entry: Path) -> dict[str, bool]:
    return {check.name: check.passed for check in zoo.verify(f"file:{entry}")}


def test_an_untouched_entry_passes_every_check(tiny_entry: Path):
    assert results(tiny_entry) == {"hashes": True, "weights": True, "golden": True, "metrics": True}


@pytest.mark.parametrize("name", ["model.h5", "model.safetensors", "golden.safetensors", "README.md", "curves.png"])
def test_a_changed_file_fails_the_hash_check_by_its_name(tiny_entry: Path, name: str):
    with (tiny_entry / name).open("ab") as file:
        file.write(b"\0")
    (check,) = zoo.verify(f"file:{tiny_entry}")
    assert not check.passed
    assert name in check.found


def test_weights_that_differ_between_the_formats_are_found(tiny_entry: Path):
    state = load_file(tiny_entry / "model.h5")
    state["down.bias"] += 1
    save_file(state, tiny_entry / "model.h5")
    republish_hashes(tiny_entry)
    assert not results(tiny_entry)["weights"]


@pytest.mark.parametrize("name", ["output", "loss", "gradient.down.weight"])
def test_golden_values_that_the_weights_do_not_give_are_found_by_name(tiny_entry: Path, name: str):
    golden = load_file(tiny_entry / "golden.safetensors")
    golden[name] = golden[name] + np.float32(0.01)
    save_file(golden, tiny_entry / "golden.safetensors")
    republish_hashes(tiny_entry)
    found = {check.name: check.found for check in zoo.verify(f"file:{tiny_entry}")}
    assert found["golden"].startswith(f"{name} differs by up to")


def test_a_golden_gradient_that_is_missing_is_found_by_name(tiny_entry: Path):
    golden = load_file(tiny_entry / "golden.safetensors")
    del golden["gradient.up.bias"]
    save_file(golden, tiny_entry / "golden.safetensors")
    republish_hashes(tiny_entry)
    found = {check.name: check.found for check in zoo.verify(f"file:{tiny_entry}")}
    assert found["golden"] == "gradient.up.bias is in one of the two only"


def test_a_metric_that_the_model_does_not_reach_is_found(tiny_entry: Path):
    path = tiny_entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["mse"] += 0.1
    path.write_text(json.dumps(manifest))
    assert not results(tiny_entry)["metrics"]
