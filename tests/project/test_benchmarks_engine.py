"""The baseline that benchmarks/engine.py measures against trains as statezoo does."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WORK = ("tense", "mlp", "transformer", "linear", "cnn", "lstm", "gpt")
WITH_FLOOR = WORK[:4]


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """The modules of benchmarks/, which is a folder of scripts and not a package."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def proof(engine: Any, contestant: str, name: str) -> Any:
    work = engine("engines.work").WORK[name]()
    return engine("engines.workers").prove(engine(f"engines.in_{contestant}").build(work), 20)


@pytest.mark.parametrize("name", WITH_FLOOR)
def test_the_floor_has_the_losses_and_the_output_of_statezoo(engine: Any, name: str) -> None:
    ours, floor = proof(engine, "statezoo", name), proof(engine, "numpy", name)
    np.testing.assert_allclose(floor.losses, ours.losses, rtol=1e-5)
    np.testing.assert_allclose(floor.output, ours.output, atol=1e-3)
    assert ours.losses[-1] < ours.losses[0]


def test_every_kind_of_work_is_tested(engine: Any) -> None:
    assert tuple(engine("engines.work").WORK) == WORK
    assert WITH_FLOOR + engine("engines.in_numpy").WITHOUT == WORK


@pytest.mark.torch
@pytest.mark.parametrize("name", WORK)
def test_pytorch_has_the_same_losses_and_output(engine: Any, name: str) -> None:
    pytest.importorskip("torch")
    ours, theirs = proof(engine, "statezoo", name), proof(engine, "torch", name)
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=1e-5)
    np.testing.assert_allclose(theirs.output, ours.output, atol=1e-3)


def test_contestants_that_compute_different_things_are_not_timed(engine: Any) -> None:
    module, workers = engine("engine"), engine("engines.workers")
    ours = workers.Proof(np.array([2.0, 1.0]), np.zeros((1, 5)))
    wrong = workers.Proof(np.array([2.0, 1.1]), np.zeros((1, 5)))
    module.require_equal("tense", {"statezoo": ours, "numpy": ours})
    with pytest.raises(SystemExit, match="tense: numpy and statezoo differ, so nothing is timed"):
        module.require_equal("tense", {"statezoo": ours, "numpy": wrong})
