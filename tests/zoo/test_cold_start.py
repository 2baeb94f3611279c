"""The imports of a process that predicts: only what it uses. Each test starts its own process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from statezoo import zoo
from statezoo.zoo.registry import get_architecture

PREDICT = "from statezoo import zoo; zoo.load('tense-mlp').predict('hablar', 'yo')"

# Packages for other work, and modules of Python and NumPy that take milliseconds to import.
ELSEWHERE = ["h5py", "matplotlib", "ml_dtypes", "safetensors", "sklearn", "threadpoolctl", "tqdm"]
SLOW = ["argparse", "difflib", "numpy.random", "numpy.typing", "shutil", "subprocess", "tempfile"]


def printed_by(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def imported_by(program: str) -> set[str]:
    """Return the modules that a program imports in addition to those of NumPy."""
    counted = f"import json, numpy, sys; before = set(sys.modules)\n{program}\n"
    return set(json.loads(printed_by(f"{counted}print(json.dumps(sorted(set(sys.modules) - before)))")))


def test_loading_a_model_and_predicting_imports_nothing_for_other_work():
    imported = imported_by(PREDICT)
    assert imported & {*ELSEWHERE, *SLOW} == set()
    assert "statezoo.zoo.models.tense_mlp.model" in imported


def test_loading_a_model_imports_no_other_architecture_and_no_training():
    imported = imported_by(PREDICT)
    others = {"linear_regression", "simple_mlp", "transformer_block", "tense_mlp.recipe"}
    work = {"recipe", "data", "training", "publishing", "verification", "pictures"}
    assert imported & {f"statezoo.zoo.{name}" for name in others | work} == set()
    assert imported & {"statezoo.checkpoints.tools.inspection", "statezoo.checkpoints.testing"} == set()


@pytest.mark.parametrize("package", ["core", "checkpoints"])
def test_importing_a_package_imports_none_of_the_others_and_nothing_slow(package: str):
    imported = imported_by(f"import statezoo.{package}")
    assert imported & {*ELSEWHERE, *SLOW} == set()
    assert {name.split(".")[1] for name in imported if name.startswith("statezoo.")} == {package}


@pytest.mark.parametrize("package", ["core", "checkpoints", "zoo"])
def test_every_public_name_exists_and_is_listed_before_its_first_use(package: str):
    program = f"from statezoo import {package} as package; names = package.__all__; listed = dir(package)\n"
    assert printed_by(f"{program}print([n for n in names if n not in listed or not hasattr(package, n)])") == "[]"


@pytest.mark.parametrize("package", ["checkpoints", "zoo"])
def test_an_unknown_name_of_a_package_is_an_attribute_error(package: str):
    program = f"import statezoo.{package} as package\ntry: package.lode\nexcept AttributeError as error: print(error)"
    assert printed_by(program) == f"module 'statezoo.{package}' has no attribute 'lode'"


def test_the_architecture_in_a_manifest_never_causes_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "model.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("evil", "zoo", "..checkpoints", "tense_mlp"):
        with pytest.raises(zoo.UnknownNameError, match=f"no architecture named '{name}'"):
            get_architecture(name)


def test_all_architectures_and_recipes_are_known_before_any_is_imported():
    entries = zoo.list_models()
    architectures = json.loads(
        printed_by("import json; from statezoo import zoo; print(json.dumps(zoo.architectures()))")
    )
    recipes = json.loads(printed_by("import json; from statezoo import zoo; print(json.dumps(zoo.recipes()))"))
    assert set(architectures) == {name.split(".")[0] for name in entries}
    assert set(recipes) >= set(entries)


def test_a_class_cannot_take_the_name_of_an_architecture_that_is_not_imported_yet():
    program = "from statezoo import core, zoo\ntry: zoo.register('simple-mlp')(core.Linear)\n"
    assert "is already statezoo.zoo.models.simple_mlp.model.SimpleMLP" in printed_by(
        f"{program}except zoo.ZooError as error: print(error)"
    )


def test_a_recipe_of_your_own_replaces_a_built_in_one_that_is_not_imported_yet():
    program = (
        "from statezoo import zoo\n"
        "class Mine(zoo.Recipe): data = loss = evaluate = None\n"
        "zoo.register_recipe(Mine('tense-mlp', 'tense-mlp'))\n"
    )
    assert printed_by(f"{program}print(type(zoo.get_recipe('tense-mlp')).__name__)") == "Mine"


def test_draws_inside_undisturbed_generator_do_not_move_the_default_generator():
    program = (
        "from statezoo.core.random import default_generator, undisturbed_generator\n"
        "with undisturbed_generator(): default_generator().random(3)\n"
        "import numpy; print(default_generator().random() == numpy.random.default_rng(0).random())"
    )
    assert printed_by(program) == "True"
