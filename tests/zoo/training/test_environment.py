"""The environment that a run records: enough to explain why another machine gives different bits."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from statezoo.zoo.training.run import environment as recorded
from statezoo.zoo.training.run.determinism import PINNED, one_thread
from statezoo.zoo.training.run.environment import changes, environment, is_pinned, merged, same_bits


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit that the library treats as its own."""
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "model.py").write_text("1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    monkeypatch.setattr(recorded, "CHECKOUT", tmp_path)
    return tmp_path


def test_the_environment_names_versions_processor_and_linear_algebra():
    here = environment()
    assert here["numpy"] == np.__version__
    assert here["blas_kernel"]
    assert "X86" in here["simd"] or here["platform"].split()[1] != "x86_64"
    assert all(type(value) is str for value in here.values())


def test_a_processor_without_additional_features_has_an_environment_too(monkeypatch: pytest.MonkeyPatch):
    built = {"Build Dependencies": {"blas": {"name": "blas", "version": "1"}}, "SIMD Extensions": {"baseline": ["X"]}}
    monkeypatch.setattr(np, "show_config", lambda mode: built)
    assert environment()["simd"] == "X"


def test_a_recipes_environment_has_one_thread():
    with one_thread():
        assert environment()["blas_threads"] in ("1", "unknown")


def test_the_commit_is_the_checkouts(checkout: Path):
    assert environment()["commit"] == git(checkout, "rev-parse", "HEAD")


def test_changed_and_new_code_makes_a_commit_dirty(checkout: Path):
    (checkout / "zoo" / "model.py").write_text("2\n")
    assert environment()["commit"] == git(checkout, "rev-parse", "HEAD") + "-dirty"
    git(checkout, "checkout", "--quiet", ".")
    (checkout / "zoo" / "new.py").touch()
    assert environment()["commit"].endswith("-dirty")


def test_a_changed_published_file_does_not_make_a_commit_dirty(checkout: Path):
    (checkout / "zoo" / "README.md").write_text("new")
    assert not environment()["commit"].endswith("-dirty")


def test_an_installed_copy_has_no_commit_even_inside_another_repository(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recorded, "CHECKOUT", checkout / "zoo")
    assert environment()["commit"] == "unknown"


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["commit"] == "unknown"


def test_a_run_resumed_elsewhere_names_both_environments_once():
    first, second = {"numpy": "2.1", "cpu": "A"}, {"numpy": "2.4", "cpu": "A"}
    once = merged(first, second)
    assert once == {"numpy": "2.1, then 2.4", "cpu": "A"}
    assert merged(once, second) == once
    assert merged(once, first)["numpy"] == "2.1, then 2.4, then 2.1"


def test_changes_name_what_differs_or_is_missing_on_one_side():
    found = changes({"numpy": "2.1", "cpu": "A"}, {"numpy": "2.4", "cpu": "A", "simd": "X"})
    assert found == {"numpy": ("2.1", "2.4"), "simd": ("unknown", "X")}


RECORDED = {
    "python": "3.11.7",
    "statezoo": "0.1.0",
    "commit": "a",
    "numpy": "2.4.6",
    "simd": "X86_V2 X86_V3",
    "blas": "scipy-openblas 0.3.31",
    "blas_kernel": "Haswell",
    "blas_threads": "1",
    "pin": PINNED,
    "platform": "Linux x86_64",
    "cpu": "AMD EPYC",
}
UNPINNED = RECORDED | {"pin": "none: OpenBLAS uses its Zen kernel"}


@pytest.mark.parametrize("key", ["python", "commit", "simd", "blas_kernel", "cpu"])
def test_two_pinned_processes_must_give_the_same_bits_on_any_processor(key: str):
    assert is_pinned(RECORDED)
    assert same_bits(RECORDED, RECORDED | {key: "other"})


@pytest.mark.parametrize("key", ["statezoo", "numpy", "blas", "platform", "pin"])
def test_another_version_or_no_pin_may_give_other_bits(key: str):
    assert not same_bits(RECORDED, RECORDED | {key: "other"})


def test_without_a_pin_the_processor_decides_too():
    assert same_bits(UNPINNED, UNPINNED | {"commit": "b", "python": "3.12.1"})
    for key in ("numpy", "simd", "blas", "blas_kernel", "blas_threads", "platform", "cpu"):
        assert not same_bits(UNPINNED, UNPINNED | {key: "other"}), key


def test_a_run_resumed_without_the_pin_is_not_pinned():
    assert not is_pinned(merged(RECORDED, UNPINNED))
    assert is_pinned(merged(RECORDED, RECORDED))
