"""Training in a fresh process: what is passed to it, what it returns, and that it never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from statezoo import zoo
from statezoo.zoo.models.linear_regression.recipe import LinearRegressionRecipe
from statezoo.zoo.training.child import train_apart

QUICK = zoo.get_recipe("linear-regression").with_settings(epochs=2)

# A user's model and recipe. %s: code that runs when the data are made.
OWN = """
from dataclasses import dataclass
from statezoo import zoo
from statezoo.core import Linear, Tensor
from statezoo.zoo.data import plane
from statezoo.zoo.training.child import train_apart

@zoo.register("own")
class Own(Linear):
    pass

@dataclass(frozen=True)
class OwnRecipe(zoo.Recipe):
    def data(self):
        %s
        return plane(64, 0)

    def loss(self, model, x, y):
        return ((model(Tensor(x)) - y) ** 2).mean()

    def evaluate(self, model, data):
        return {"weight": float(model.weight.data.sum())}

RECIPE = zoo.register_recipe(OwnRecipe("own", "own", {"in_features": 2, "out_features": 1}, epochs=2))
"""
TRAIN = "from pathlib import Path; print(train_apart(RECIPE, Path('runs/own')).history[-1]['epoch'])\n"
GUARDED = f"if __name__ == '__main__':\n    {TRAIN}"


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(program)
    return subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True)


def test_a_child_and_this_process_give_the_same_run(tmp_path: Path):
    here = zoo.train(QUICK, tmp_path / "here")
    there = train_apart(QUICK, tmp_path / "there", pinned=False)
    assert there.history == here.history
    assert (tmp_path / "there" / "checkpoint.safetensors").read_bytes() == (
        tmp_path / "here" / "checkpoint.safetensors"
    ).read_bytes()


def test_an_error_in_training_is_raised_in_the_parent(tmp_path: Path):
    recipe = zoo.get_recipe("linear-regression").with_settings(lr=1e30)
    with pytest.raises(zoo.RunError, match="Lower lr"):
        train_apart(recipe, tmp_path / "run")


def test_a_program_trains_a_recipe_of_statezoo_without_a_guard(tmp_path: Path):
    result = run(tmp_path, "from statezoo import zoo\n\nprint(zoo.repro('linear-regression').passed)\n")
    assert result.stdout == "True\n", result.stderr


def test_a_program_trains_its_own_recipe(tmp_path: Path):
    result = run(tmp_path, OWN % "" + GUARDED)
    assert result.stdout == "2\n", result.stderr


def test_a_program_without_its_guard_is_told_to_add_it(tmp_path: Path):
    result = run(tmp_path, OWN % "" + TRAIN)
    assert result.returncode == 1
    assert 'Put what the program does under `if __name__ == "__main__":`.' in result.stderr


def test_a_recipe_in_a_module_next_to_the_program_is_found(tmp_path: Path):
    (tmp_path / "module.py").write_text(OWN % "")
    result = run(tmp_path, f"from module import *\n{TRAIN}")
    assert result.stdout == "2\n", result.stderr


def test_a_recipe_typed_at_a_prompt_is_refused(tmp_path: Path):
    command = [sys.executable, "-c", OWN % "" + TRAIN]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "RunError: A fresh process cannot import the recipe:" in result.stderr


def test_a_recipe_of_a_local_class_is_refused(tmp_path: Path):
    @dataclass(frozen=True)
    class Local(LinearRegressionRecipe):
        pass

    recipe = Local("linear-regression", "linear-regression")
    with pytest.raises(zoo.RunError, match=r"cannot be passed to another process: .*at the top level of a module\."):
        train_apart(recipe, tmp_path / "run")


def test_a_process_that_dies_is_an_error_with_its_status(tmp_path: Path):
    result = run(tmp_path, OWN % "import os; os._exit(7)" + GUARDED)
    assert "RunError: The process that ran the recipe of own ended with status 7 before it finished." in result.stderr


def test_an_unexpected_error_keeps_its_class_and_shows_where_it_was_raised(tmp_path: Path):
    result = run(tmp_path, OWN % "raise ZeroDivisionError('by hand')" + GUARDED)
    assert result.stderr.count("ZeroDivisionError: by hand") == 2
    assert "in data" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_its_parent(number: int, tmp_path: Path):
    wait = "import os, pathlib, time; pathlib.Path('child').write_text(str(os.getpid())); time.sleep(60)"
    (tmp_path / "program.py").write_text(OWN % wait + GUARDED)
    process = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    child = int(read_when_there(tmp_path / "child"))
    process.send_signal(number)
    assert process.wait(10) != 0
    assert ends(child)


def read_when_there(path: Path, timeout_s: float = 20) -> str:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def ends(process: int, timeout_s: float = 10) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if "Z" in Path(f"/proc/{process}/stat").read_text().split(")")[-1][:3]:
            return True  # it has ended, but nothing has read its status
        time.sleep(0.02)
    return False
