"""The museum's page shows what PyTorch and statezoo currently do with each bug, and statezoo misses none."""

from __future__ import annotations

import pytest
from exhibit import Exhibit, exhibits
from make_page import PAGE, section

pytestmark = pytest.mark.torch
pytest.importorskip("torch")

EXHIBITS = exhibits()


def test_there_are_at_least_twenty_exhibits_and_the_page_shows_no_others():
    assert len(EXHIBITS) >= 20
    titles = [line[3:] for line in PAGE.read_text().splitlines() if line.startswith("## ")]
    assert titles == [exhibit.title for exhibit in EXHIBITS]


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.bug.__name__)
def test_the_page_shows_the_current_output_of_both_frameworks(exhibit: Exhibit):
    said = section(exhibit)
    assert said in PAGE.read_text(), "run python tests/museum/make_page.py, and look at what changed"


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.bug.__name__)
def test_no_bug_is_silent_here(exhibit: Exhibit):
    said = exhibit.statezoo_says()
    assert ("fix: " in said) or ("Error: " in said), said
