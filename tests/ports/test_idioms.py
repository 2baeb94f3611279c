"""Everyday idioms of PyTorch scripts give on statezoo what they give on PyTorch."""

import json
from itertools import chain, combinations
from typing import Any

import pytest
from idiom_gaps import GAPS
from idiom_runner import KEPT, is_equal, problem_of, read_idioms, run_idiom

from statezoo.core import Tensor

IDIOMS = read_idioms()
EXPECTED: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
AGAIN = "run python tests/ports/idiom_runner.py"


def test_there_are_results_of_every_idiom():
    assert EXPECTED.keys() == IDIOMS.keys(), AGAIN
    assert len(IDIOMS) >= 300


@pytest.mark.filterwarnings("ignore")  # steps of schedules without a gradient, and what PyTorch warns of
def test_every_idiom_works_but_those_that_are_listed_with_a_reason():
    problems = {idiom: problem for idiom in IDIOMS if (problem := problem_of(idiom, EXPECTED[idiom]))}
    assert {idiom: problem for idiom, problem in problems.items() if idiom not in GAPS} == {}
    assert sorted(GAPS) == sorted(problems), "an idiom of GAPS works"
    assert 1 - len(problems) / len(IDIOMS) >= 0.95


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
def test_the_kept_results_are_those_of_pytorch():
    wrong = [idiom for idiom in IDIOMS if not is_equal(run_idiom(idiom, "torch"), EXPECTED[idiom])]
    assert wrong == [], AGAIN


IMPORTS = (
    "import statezoo.core as torch",
    "import statezoo.core.nn as nn",
    "from statezoo.core import nn",
    "import statezoo.core.nn.functional as F",
    "from statezoo.core.nn import functional as F",
    "import statezoo.core.optim as optim",
    "from statezoo.core import optim",
    "from statezoo.core.optim import lr_scheduler",
    "from statezoo.core.utils.data import DataLoader, Dataset, TensorDataset",
    "import statezoo.core.utils.data as data",
    "from statezoo.core.autograd import Variable, Function",
    "from statezoo.core import Tensor, no_grad",
    "from statezoo import core as nn",
)


@pytest.mark.parametrize("lines", list(chain.from_iterable(combinations(IMPORTS, count) for count in (1, 2))))
def test_all_forms_of_imports_work_together(lines: tuple[str, ...]):
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    x = Tensor([[1.0, -1.0]])
    if "nn" in names:
        assert names["nn"].Linear(2, 3)(x).shape == (1, 3)
    if "F" in names:
        assert names["F"].relu(x).tolist() == [[1.0, 0.0]]
    if "torch" in names:
        torch = names["torch"]
        assert torch.nn.functional is names.get("F", torch.nn.functional)
        assert torch.optim is names.get("optim", torch.optim)
        assert torch.optim.lr_scheduler is names.get("lr_scheduler", torch.optim.lr_scheduler)
        assert torch.utils.data is names.get("data", torch.utils.data)
