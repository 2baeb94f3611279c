"""The text of every error may be printed on a terminal, whatever names it quotes; its attributes are exact."""

import copy
import inspect
import pickle
import traceback
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statezoo import core, zoo
from statezoo.checkpoints import CheckpointError, CorruptError, History, MismatchError, UnknownTensorError, errors
from statezoo.checkpoints.errors import on_one_line, printable, shortened
from statezoo.zoo.errors import UnfinishedRunError

HOSTILE = "\x1b]0;title\x07\x1b[2J\r\x9b31m\u202e\u2066\u200b\u2028\u2029\x00\udce9\x7f\ufeff\u3164\ufe0f"


def is_safe(text: str) -> bool:
    """Return True if text holds no character that a terminal obeys or hides, except line breaks and tabs."""
    return all(char in "\n\t" or unicodedata.category(char)[0] not in "CZ" or char == " " for char in text)


def subclasses(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for child in base.__subclasses__():
        yield from subclasses(child)


BASES = (CheckpointError, zoo.ZooError, core.ModuleError)
PLAIN = {
    kind
    for base in BASES
    for kind in subclasses(base)
    if len(inspect.signature(kind.__init__).parameters) <= 3 and kind.__module__.startswith("statezoo")
} - {UnknownTensorError}


@pytest.mark.parametrize("kind", sorted(PLAIN, key=str))
def test_the_text_of_an_error_has_no_control_characters(kind: type[BaseException]):
    error = kind(f"{HOSTILE} is\nmissing.")
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert is_safe(str(same))
        assert str(same).endswith(" is\nmissing.")
        assert same.args[0] == f"{HOSTILE} is\nmissing."
        assert is_safe("".join(traceback.format_exception(same)))


def test_errors_with_names_keep_them_exact():
    assert CorruptError("x", (HOSTILE,)).tensors == (HOSTILE,)
    mismatch = MismatchError(HOSTILE, HOSTILE, [f"{HOSTILE}\n  x"], HOSTILE)
    assert mismatch.source == HOSTILE
    assert is_safe(str(mismatch))
    assert len(str(mismatch).splitlines()) == 3
    assert is_safe(str(UnknownTensorError(HOSTILE, HOSTILE, [f"{HOSTILE}x"])))
    assert is_safe(str(UnfinishedRunError(HOSTILE, HOSTILE, HOSTILE)))
    with pytest.raises(core.ModuleError) as caught:
        core.Linear(1, 1).load_state_dict({HOSTILE: np.ones(1)})
    assert is_safe(str(caught.value))


@given(st.text())
def test_any_text_becomes_safe_and_plain_text_does_not_change(text: str):
    assert is_safe(printable(text))
    assert printable(printable(text)) == printable(text)
    assert "\n" not in on_one_line(text)
    if is_safe(text) and "\t" not in text and printable(text) != text:
        assert errors._INVISIBLE.search(text)


def test_letters_of_every_script_are_shown():
    text = "模型 Größe عربي עברית हिन्दी 한국어 ░▒█ é"
    assert printable(text) == text


def test_the_middle_of_a_very_long_line_is_left_out_and_the_advice_stays():
    text = str(CheckpointError(f"tensor {'x' * 10**6} is damaged.\nUse another copy."))
    assert len(text) < 2000
    assert text.endswith(" is damaged.\nUse another copy.")
    assert "(998,519 characters)" in text
    assert shortened("short\n" * 1000) == "short\n" * 1000


def test_the_warning_about_a_damaged_checkpoint_has_no_control_characters(tmp_path: Path):
    history = History(tmp_path / f"run{HOSTILE.replace(chr(0), '')}")
    for step in (1, 2):
        history.save(step, {"w": np.ones(3)})
    last = history.latest()
    assert last is not None
    content = Path(last.path).read_bytes()
    Path(last.path).write_bytes(content[:40])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = history.latest()
    assert found is not None
    assert found.step == 1
    assert caught
    assert all(is_safe(str(warning.message)) for warning in caught)
