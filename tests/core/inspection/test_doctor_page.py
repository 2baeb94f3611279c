"""docs/core/doctor.md shows what the doctor says."""

import re
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parents[3] / "docs" / "core" / "doctor.md"


def test_the_example_on_the_page_prints_the_report_on_the_page(capsys):
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", PAGE.read_text(), re.DOTALL)[:2]
    random = np.random.default_rng(0)
    given = {
        "x": random.standard_normal((32, 64)).astype(np.float32),
        "y": random.standard_normal(32).astype(np.float32),
    }
    exec(code, given)
    assert capsys.readouterr().out == shown
