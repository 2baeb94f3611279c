"""Recipes that are run again: what must be the same, what may differ, and what the report says."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.checkpoints import diff
from statezoo.scripts.command import main
from statezoo.zoo.publishing import reproduction
from statezoo.zoo.publishing.verification import Metric
from statezoo.zoo.training.train import train

SCRIPTS = Path(__file__).parents[3] / "scripts"
WEIGHT = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: a fresh one cannot import the recipes of these tests."""

    def train_here(recipe: zoo.Recipe, folder: Path, pinned: bool) -> object:
        return train(recipe, folder)

    monkeypatch.setattr(reproduction, "train_apart", train_here)


def change_manifest(entry: Path, **changes: Any) -> None:
    path = entry / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reproduced(change: float, metric: float = 0.9, *, comparable: bool = False) -> zoo.Reproduction:
    """A reproduction with one weight changed and the metric 0.9 found as `metric`. Each may differ by 0.01."""
    again = WEIGHT.copy()
    again[1, 2] += change
    weights = diff({"weight": WEIGHT}, {"weight": again})
    environment = {"numpy": ("old", "new")}
    return zoo.Reproduction("net", weights, 0.01, (Metric("accuracy", 0.9, metric, 0.01),), environment, comparable)


def test_a_fresh_process_reproduces_the_weights_of_an_entry():
    found = zoo.repro("linear-regression")
    assert found.passed
    assert found.identical or not found.comparable
    assert {metric.name for metric in found.metrics} == {"mse", "weight_error"}


def test_equal_bits_are_reported_in_any_environment(tiny_entry: Path, in_this_process: None):
    found = zoo.repro(f"file:{tiny_entry}")
    assert found.identical
    assert found.passed
    assert str(found).startswith("tiny-net.noise: reproduced bit for bit\n")
    assert "published ->" not in str(found)


def test_another_environment_may_differ_within_the_bounds_of_the_card():
    found = reproduced(0.005)
    assert found.passed
    assert (
        "reproduced within the bounds of its card: every metric is near, weights differ by up to 0.005 (0.01 allowed)"
        in str(found)
    )
    assert re.search(r"numpy +old +new", str(found))


def test_in_the_same_environment_one_different_bit_is_a_failure():
    found = reproduced(1e-6, comparable=True)
    assert not found.passed
    assert "not reproduced: every bit must be the same in this environment, but weights differ" in str(found)


@pytest.mark.parametrize(("change", "metric"), [(0.02, 0.9), (0.005, 0.8), (np.nan, 0.9), (0.005, np.nan)])
def test_an_entry_outside_the_bounds_of_weights_or_metrics_is_not_reproduced(change: float, metric: float):
    found = reproduced(change, metric)
    assert not found.passed
    assert "not reproduced: beyond the bounds of its card" in str(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_the_largest_deviation_of_each_tensor_is_named(
    tiny_entry: Path, in_this_process: None, tiny_recipe: zoo.Recipe
):
    change_manifest(tiny_entry, recipe={**tiny_recipe.settings, "seed": 1, "command": "", "first_epoch": ""})
    found = zoo.repro(f"file:{tiny_entry}")
    assert not found.passed
    for change in found.weights.tensors:
        assert change.deviation is not None
        assert re.search(rf"values +{change.name} .* {change.deviation.max_absolute:.3g} ", str(found))


def test_differences_in_the_environment_are_named(tiny_entry: Path, in_this_process: None):
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    change_manifest(tiny_entry, environment=manifest["environment"] | {"numpy": "1.0", "blas_threads": "8"})
    found = zoo.repro(f"file:{tiny_entry}")
    assert found.environment["numpy"] == ("1.0", np.__version__)
    assert re.search(rf"numpy +1\.0 +{re.escape(np.__version__)}", str(found))
    assert re.search(r"blas threads +8 +1", str(found))


def test_different_data_is_an_error_before_anything_is_trained(tiny_entry: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reproduction, "train_apart", None)
    manifest = json.loads((tiny_entry / "manifest.json").read_text())
    change_manifest(tiny_entry, data=manifest["data"] | {"sha256": "0" * 64})
    with pytest.raises(
        zoo.DataError, match=r"makes different data here: SHA-256 \w{64}, published with 0{64}\. Install the"
    ):
        zoo.repro(f"file:{tiny_entry}")


def test_the_verb_repro_shows_the_report_and_fails_if_the_entry_is_not_reproduced(
    tiny_entry: Path, in_this_process: None, tiny_recipe: zoo.Recipe, capsys: pytest.CaptureFixture[str]
):
    assert main(["repro", f"file:{tiny_entry}"]) == 0
    assert capsys.readouterr().out.startswith("tiny-net.noise: reproduced bit for bit\n")
    change_manifest(tiny_entry, recipe={**tiny_recipe.settings, "seed": 1, "command": "", "first_epoch": ""})
    assert main(["repro", f"file:{tiny_entry}", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["passed"], shown["identical"], shown["weights"]["same"]) == (False, False, False)
    assert shown["metrics"][0]["name"] == "mse"


def test_verify_zoo_runs_the_recipes_again_with_repro():
    command = [sys.executable, str(SCRIPTS / "verify_zoo.py"), "linear-regression", "--repro"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert re.search(r"linear-regression +repro +ok +reproduced ", result.stdout)


@pytest.fixture
def another_processor() -> dict[str, str]:
    """Variables that make OpenBLAS and NumPy compute as on a processor of 2008, with different rounding."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("uses the x86-64 kernels of OpenBLAS in NumPy's wheels for Linux")
    extensions: Any = np.show_config(mode="dicts")
    found = extensions["SIMD Extensions"].get("found", [])
    return {**os.environ, "OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": " ".join(found)}


@pytest.mark.slow
def test_golden_values_and_metrics_hold_on_another_processor(another_processor: dict[str, str]):
    command = [sys.executable, str(SCRIPTS / "verify_zoo.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=another_processor)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(zoo.list_models())} entries, 0 failed checks" in result.stdout


REPRODUCE_WITHOUT_THE_PIN = """
import json
from statezoo import zoo
from statezoo.zoo.publishing import reproduction

reproduction.is_pinned = lambda environment: False
print(json.dumps(zoo.repro("tense-mlp").as_dict()))
"""


@pytest.mark.slow
def test_without_the_pin_a_recipe_stays_within_the_bounds_of_its_card(another_processor: dict[str, str]):
    command = [sys.executable, "-c", REPRODUCE_WITHOUT_THE_PIN]
    result = subprocess.run(command, capture_output=True, text=True, env=another_processor)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["environment"]["blas_kernel"]["here"] == "Nehalem"
    assert not found["identical"]
    assert found["passed"]


def test_verify_of_an_entry_checks_its_files_and_with_metrics_its_card(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["verify", "tense-mlp"]) == 0
    assert "golden" in (shown := capsys.readouterr().out)
    assert "metrics" not in shown
    assert main(["verify", "tense-mlp", "--metrics", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert checks[-1]["name"] == "metrics"
    assert checks[-1]["found"].startswith("cross_entropy 1.3")


def test_verify_of_a_changed_entry_names_the_file_and_fails(tiny_entry: Path, capsys: pytest.CaptureFixture[str]):
    with (tiny_entry / "model.h5").open("ab") as file:
        file.write(b"\0")
    assert main(["verify", f"file:{tiny_entry}"]) == 1
    assert re.search(r"files +FAILED .*model\.h5 has \d+ bytes", capsys.readouterr().out)


def test_a_name_is_the_entry_and_a_path_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tense-mlp").write_bytes(b"no checkpoint")
    assert main(["verify", "tense-mlp"]) == 0
    assert main(["verify", "./tense-mlp"]) == 1
    assert "tense-mlp" in capsys.readouterr().err
    assert main(["verify", "tens-mlp"]) == 1
    assert "Did you mean 'tense-mlp'?" in capsys.readouterr().err
    assert main(["verify", "nowhere.h5", "--metrics"]) == 1
    assert "nowhere.h5 is a file, and files have no metrics" in capsys.readouterr().err
