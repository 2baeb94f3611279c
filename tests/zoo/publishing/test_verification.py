"""Verification finds every change since an entry was published."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import load_file, read_metadata, save_file
from statezoo.zoo.data import Split
from statezoo.zoo.entry import describe_files, manifest_text
from statezoo.zoo.loading import find


def republish_hashes(entry: Path) -> None:
    """Make the manifest match changed files, so that only their content can reveal the change."""
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"] = describe_files(entry, list(manifest["files"]))
    path.write_text(manifest_text(manifest))


def results(entry: Path) -> dict[str, bool]:
    return {check.name: check.passed for check in zoo.verify(f"file:{entry}")}


def test_an_untouched_entry_passes_every_check(tiny_entry: Path):
    assert all(results(tiny_entry).values())
    assert list(results(tiny_entry)) == ["files", "weights", "golden", "data", "metrics"]


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
    save_file(state, tiny_entry / "model.h5", read_metadata(tiny_entry / "model.safetensors"))
    republish_hashes(tiny_entry)
    (check,) = zoo.verify(f"file:{tiny_entry}")
    assert not check.passed
    assert "model.h5 does not hold the state that the manifest describes: their fingerprints differ" in check.found


@pytest.mark.parametrize("name", ["output", "loss", "gradient.down.weight"])
def test_wrong_golden_values_are_found_by_name(tiny_entry: Path, name: str):
    golden = load_file(tiny_entry / "golden.safetensors")
    golden[name] = golden[name] + np.float32(0.01)
    save_file(golden, tiny_entry / "golden.safetensors")
    republish_hashes(tiny_entry)
    found = {check.name: check.found for check in zoo.verify(f"file:{tiny_entry}")}
    assert found["golden"].startswith(f"{name} differs by up to")


def test_a_missing_golden_gradient_is_found_by_name(tiny_entry: Path):
    golden = load_file(tiny_entry / "golden.safetensors")
    del golden["gradient.up.bias"]
    save_file(golden, tiny_entry / "golden.safetensors")
    republish_hashes(tiny_entry)
    found = {check.name: check.found for check in zoo.verify(f"file:{tiny_entry}")}
    assert found["golden"] == "gradient.up.bias is computed but not stored"


def change_manifest(entry: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(manifest_text(manifest))


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_wrong_metric_is_found(tiny_entry: Path, factor: float):
    change_manifest(tiny_entry, lambda manifest: manifest["metrics"].update(mse=manifest["metrics"]["mse"] * factor))
    assert not results(tiny_entry)["metrics"]


@pytest.mark.parametrize("name", ["linear-regression", "tense-mlp", "tied-autoencoder.digits"])
def test_a_metric_close_to_zero_cannot_be_improved_by_hand(name: str, tmp_path: Path):
    entry = Path(shutil.copytree(find(name), tmp_path / "entry"))
    change_manifest(entry, lambda manifest: manifest.update(metrics={k: v / 2 for k, v in manifest["metrics"].items()}))
    assert not results(entry)["metrics"]


def test_data_that_differs_from_the_published_data_is_found(tiny_entry: Path):
    change_manifest(tiny_entry, lambda manifest: manifest["data"].update(sha256="0" * 64))
    assert not results(tiny_entry)["data"]


def test_golden_values_that_are_nan_are_found(tiny_entry: Path):
    golden = load_file(tiny_entry / "golden.safetensors")
    golden["output"][:] = np.nan
    save_file(golden, tiny_entry / "golden.safetensors")
    republish_hashes(tiny_entry)
    assert not results(tiny_entry)["golden"]


@pytest.mark.parametrize(("name", "value"), [("input", None), ("target", None), ("input", np.ones((2, 9), np.float32))])
def test_golden_inputs_that_are_missing_or_do_not_fit_are_found(tiny_entry: Path, name: str, value: np.ndarray | None):
    golden = load_file(tiny_entry / "golden.safetensors")
    del golden[name]
    save_file(golden if value is None else {**golden, name: value}, tiny_entry / "golden.safetensors")
    republish_hashes(tiny_entry)
    assert not results(tiny_entry)["golden"]


def test_data_that_cannot_be_made_here_is_reported_with_the_other_checks(
    tiny_entry: Path, tiny_recipe: zoo.Recipe, monkeypatch: pytest.MonkeyPatch
):
    def fail(self: zoo.Recipe) -> Split:
        raise zoo.MissingExtraError("this needs scikit-learn, which is not installed")

    monkeypatch.setattr(type(tiny_recipe), "data", fail)
    checks = zoo.verify(f"file:{tiny_entry}")
    assert [check.name for check in checks if check.passed] == ["files", "weights", "golden"]
    assert checks[-1] == zoo.Check("data", False, "not checked: this needs scikit-learn, which is not installed")


def test_an_entry_is_verified_with_the_settings_it_was_made_with(tiny_recipe: zoo.Recipe, tmp_path: Path):
    zoo.train(tiny_recipe.with_settings(seed=7, epochs=2), tmp_path / "run")
    entry = zoo.publish(tmp_path / "run", tmp_path / "zoo")
    assert all(results(entry).values())
