"""docs/coming-from-pytorch.md shows the names that there are now, here and in PyTorch."""

import re
from itertools import chain

import pytest
from coming_page import PAGE, difference_of, kept_names, page_of, reason_of, sorted_names
from page_texts import DIFFERENT, MISSING, REST

from statezoo import core

AGAIN = "run python tests/ports/coming_page.py"
SECTIONS = kept_names()
EVERY = {f"{section}.{name}" for section, families in SECTIONS.items() for names in families.values() for name in names}


def test_the_page_shows_the_names_of_the_code():
    assert PAGE.read_text(encoding="utf-8") == page_of(SECTIONS), AGAIN


@pytest.mark.torch
def test_the_kept_names_are_those_of_pytorch():
    import torch
    import torch.utils.data
    from torch_names import collect

    assert collect(torch) == SECTIONS, AGAIN


def test_every_name_is_in_one_column():
    for section, families in SECTIONS.items():
        for names in families.values():
            same, different, missing = sorted_names(section, names)
            assert sorted([*same, *different, *chain(*missing.values())]) == sorted(names)


def test_every_text_of_the_page_is_of_a_name():
    assert DIFFERENT.keys() - EVERY == set()
    names = {path.rsplit(".", 1)[-1] for path in EVERY}
    assert [pattern for pattern, _ in MISSING if not any(re.fullmatch(pattern, name) for name in names)] == []


def test_a_parameter_that_is_missing_here_is_a_difference():
    def ours(input: int, dim: int = 0) -> int:
        return input + dim

    assert difference_of("torch", "cumsum", "input, dim=0, *, out=None", ours) == ""
    assert difference_of("torch", "cumsum", "input, dim=0, *, dtype=None", ours) == "no `dtype`"
    assert difference_of("torch", "cumsum", None, ours) == ""


def test_a_name_that_is_missing_has_a_reason():
    assert reason_of("NoSuchLayer") == REST
    assert hasattr(core.nn, "Linear")
