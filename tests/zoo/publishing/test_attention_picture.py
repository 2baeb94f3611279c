"""The attention of the sorting transformer: the numbers, their picture, and the example that shows them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.zoo.data import sorting
from statezoo.zoo.models.transformer_block.attention import attention_by_rank, attention_weights, draw_attention

EXAMPLE = np.array([3, 5, 2, 9, 1, 4])
DIGITS = sorting(n_train=1, n_test=500, seed=0).test_x


@pytest.fixture(scope="module")
def model() -> Any:
    return zoo.load("transformer-block.sort")


def test_each_answer_position_spreads_its_attention_over_what_it_can_read(model: Any):
    weights = attention_weights(model, DIGITS[:7])
    assert weights.shape == (7, 4, 6, 12)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    for step in range(6):
        assert not weights[:, :, step, 7 + step :].any()


def test_digits_are_ordered_by_size_and_sequences_with_equal_digits_are_left_out(model: Any):
    one = attention_by_rank(model, np.stack([EXAMPLE, np.zeros_like(EXAMPLE)]))
    weights = attention_weights(model, EXAMPLE[None])[0]
    assert one.shape == (4, 6, 8)
    np.testing.assert_allclose(one[..., :6], weights[..., [4, 2, 0, 5, 1, 3]])  # where 1 2 3 4 5 9 stand
    np.testing.assert_allclose(one[..., 6], weights[..., 6])
    np.testing.assert_allclose(one[..., 7], weights[..., 7:].sum(axis=-1), atol=1e-7)


def test_the_published_model_attends_most_to_the_digit_it_is_about_to_write(model: Any):
    shares = attention_by_rank(model, DIGITS).mean(axis=0)[:, :6]
    assert shares.argmax(axis=1).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_picture_shows_the_example_the_mean_and_every_head(model: Any):
    figure = draw_attention(model, DIGITS, EXAMPLE)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "one example, mean of 4 heads",
        "many examples, mean of 4 heads",
        *(f"many examples, head {head}" for head in (1, 2, 3, 4)),
    ]
    share = np.diagonal(attention_by_rank(model, DIGITS).mean(axis=0)).mean()
    title = figure.get_suptitle()
    assert f"{share:.0%} goes to the digit it is about to write; an equal share would be 11%" in title
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list("352914|12345")
    shown = np.asarray(figure.axes[2].images[0].get_array())
    np.testing.assert_allclose(shown, attention_by_rank(model, DIGITS)[0], rtol=1e-6)


def test_the_card_of_the_sorting_transformer_gets_the_picture(model: Any):
    recipe = zoo.get_recipe("transformer-block.sort")
    pictures = recipe.pictures(model, recipe.data())
    assert any("The attention of the model while it writes" in caption for caption in pictures)


def test_the_example_prints_what_it_draws(tmp_path: Path):
    example = Path(__file__).parents[3] / "examples" / "attention_pattern.py"
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    result = subprocess.run(
        [sys.executable, str(example), "seen.png"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr
    for n in range(1, 7):
        assert re.search(rf"output digit {n}: \d+% of the attention is on the digit of rank {n}", result.stdout)
    assert (tmp_path / "seen.png").read_bytes().startswith(b"\x89PNG")
