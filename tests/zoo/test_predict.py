"""Predictions from typed input, with readable output."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.core import Tensor
from statezoo.zoo.data.images import parse_image, render_image

FOUR = "00018100/00178300/00787600/03928300/07849960/03999410/00139000/00018000"


def test_linear_regression_predicts_the_plane():
    assert zoo.load("linear-regression").predict(3, 4) == pytest.approx([18], abs=0.01)


def test_a_point_can_be_numbers_text_or_a_list_and_many_points_an_array():
    model = zoo.load("linear-regression")
    one = model.predict(3, 4)
    assert np.array_equal(one, model.predict("3", "4"))
    assert np.array_equal(one, model.predict([3, 4]))
    assert model.predict(np.ones((5, 2))).shape == (5, 1)


@pytest.mark.parametrize(
    "inputs",
    [(1,), (1, 2, 3), ("a", "b"), ("nan", "1"), (1, float("inf")), (None,), ([[1, 2, 3]],), (np.ones((1, 1, 2)),)],
)
def test_an_invalid_point_is_an_error_that_shows_a_valid_one(inputs: tuple[object, ...]):
    with pytest.raises(zoo.InputError, match=r"A point must be 2 (finite )?numbers, such as 3 4, not "):
        zoo.load("linear-regression").predict(*inputs)


def test_the_tenses_of_hablar_come_with_probabilities_and_forms():
    tenses = zoo.load("tense-mlp").predict("hablar", "yo")
    assert {tense.tense: tense.form for tense in tenses} == {
        "presente": "hablo",
        "preterito": "hablé",
        "imperfecto": "hablaba",
        "futuro": "hablaré",
        "condicional": "hablaría",
    }
    assert sum(tense.probability for tense in tenses) == pytest.approx(1)
    assert [tense.probability for tense in tenses] == sorted((tense.probability for tense in tenses), reverse=True)


def test_an_unknown_verb_suggests_a_known_one():
    with pytest.raises(zoo.InputError, match="hablar"):
        zoo.load("tense-mlp").predict("habler", "yo")


@pytest.mark.parametrize("digits", ["352914", [3, 5, 2, 9, 1, 4], ("3", "5", "2", "9", "1", "4")])
def test_six_digits_are_sorted(digits: object):
    assert zoo.load("transformer-block.sort").predict(digits) == [1, 2, 3, 4, 5, 9]


@pytest.mark.parametrize("digits", ["", "12345", "1234567", "12345x", [1, 2, 3, 4, 5, 10], [1, 2, 3, 4, 5, -1], 123456])
def test_an_invalid_sequence_is_an_error_that_shows_a_valid_one(digits: object):
    with pytest.raises(zoo.InputError, match="The input must be 6 digits from 0 to 9, such as 352914, not "):
        zoo.load("transformer-block.sort").predict(digits)


@pytest.mark.parametrize(("a", "b", "total"), [(45, 60, 8), ("45", "60", 8), (96, 96, 95), (0, 0, 0), (12, 30, 42)])
def test_two_numbers_are_added_modulo_97(a: Any, b: Any, total: int):
    assert zoo.load("transformer-block.modadd").predict(a, b) == total


@pytest.mark.parametrize("pair", [(97, 0), (-1, 5), ("4.5", 3), ("", 1), ("045", 2)])
def test_numbers_that_the_model_does_not_know_are_an_error(pair: Any):
    with pytest.raises(zoo.InputError, match="The input must be two numbers from 0 to 96, not "):
        zoo.load("transformer-block.modadd").predict(*pair)


@pytest.mark.parametrize(
    "name", ["simple-mlp.digits", "simple-mlp.digits-bn", "mnist-classifier.digits28", "lenet.digits28"]
)
def test_held_out_digits_are_recognized(name: str):
    data = zoo.get_recipe(name).data()
    model = zoo.load(name)
    read = [model.predict(image)[0].label for image in data.test_x[:20]]
    assert np.mean(np.array(read) == data.test_y[:20]) >= 0.9


@pytest.mark.parametrize("name", ["simple-mlp.digits", "mnist-classifier.digits28", "lenet.digits28"])
def test_a_typed_image_gives_every_digit_with_its_probability(name: str):
    prediction = zoo.load(name).predict(FOUR)
    assert prediction[0].label == 4
    assert {digit.label for digit in prediction} == set(range(10))
    assert sum(digit.probability for digit in prediction) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["gpt.conjugator", "lstm.conjugator"])
@pytest.mark.parametrize(
    ("asked", "form"),
    [
        (("hablar", "presente", "yo"), "hablo"),
        (("Decir", "futuro", "ellos"), "dirán"),
        (("rezar", "pretérito", "yo"), "recé"),  # held out
        (("ir", "imperfecto", "nosotros"), "íbamos"),
    ],
)
def test_a_conjugator_writes_the_form(name: str, asked: tuple[str, str, str], form: str):
    assert zoo.load(name).predict(*asked) == form


@pytest.mark.parametrize("name", ["tied-autoencoder.digits", "vae.digits"])
def test_an_autoencoder_returns_an_image(name: str):
    restored = zoo.load(name).predict(FOUR)
    assert restored.shape == (8, 8)
    assert 0 <= restored.min() <= restored.max() <= 1


def test_an_image_is_read_from_text_a_path_and_an_array_alike(tmp_path: Path):
    pixels = parse_image(FOUR, side=8)
    (tmp_path / "four.txt").write_text(FOUR.replace("/", "\n") + "\n")
    assert np.array_equal(pixels, parse_image(tmp_path / "four.txt", side=8))
    assert np.array_equal(pixels, parse_image(pixels.reshape(-1), side=8))


def test_text_is_never_treated_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    for name in ("secret", "some/secret"):
        (tmp_path / name).write_text(FOUR if name == "secret" else "a password")
        with pytest.raises(zoo.InputError) as caught:
            zoo.load("simple-mlp.digits").predict(name)
        assert "is not an image" in str(caught.value)
        assert "password" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read: .*No such file"), (b"\xff", "is not text")])
def test_a_path_without_an_image_is_an_error_that_names_it(tmp_path: Path, content: bytes | None, message: str):
    path = tmp_path / "four.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(zoo.InputError, match=rf"four\.txt {message}"):
        parse_image(path, side=8)


def test_a_rendered_image_can_be_read_back():
    pixels = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.abs(parse_image(render_image(pixels), side=8) - pixels).max() <= 0.5 / 9 + 1e-6


def test_a_blank_first_row_and_windows_line_ends_are_read(tmp_path: Path):
    (tmp_path / "image.txt").write_bytes(b"        \r\n" + b"00000009\r\n" * 7)
    pixels = parse_image(tmp_path / "image.txt", side=8)
    assert pixels[0].max() == 0
    assert pixels[1:, 7].min() == 1


def test_short_rows_are_padded_with_blanks():
    assert parse_image("@/" * 7 + " " * 8, side=8)[:, 1:].max() == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("123", "'123' is not an image. Write its rows with '/' between them"),
        ("0" * 5000, "is not an image"),
        ("ab/cd", "'ab/cd' is not an image: 'a' in row 1 is not a shade"),
        ("12/34", "An image must have 8 rows of 8"),
        (np.ones((3, 4)), "An image must be square"),
        (np.ones(0), "An image must be square"),
        (np.full((8, 8), 16.0), "The values of an image must be in 0..1. Divide scikit-learn's digits by 16"),
        (np.full((8, 8), np.nan), "The values of an image must be in 0..1"),
        (object(), "An image must be an array of numbers or rows of text"),
    ],
)
def test_an_invalid_image_is_an_error_that_describes_a_valid_one(image: object, message: str):
    with pytest.raises(zoo.InputError, match=message):
        parse_image(image, side=8)


def test_the_vae_draws_its_code_in_training_and_takes_the_mean_in_evaluation():
    model: Any = zoo.load("vae.digits")
    x = Tensor(parse_image(FOUR, side=8).reshape(1, 64))
    mean, log_variance = model.encode(x)
    assert np.array_equal(model(x).data, model.decode(mean).sigmoid().data)
    assert np.array_equal(model(x).data, model(x).data)
    many = Tensor(np.repeat(x.data, 20_000, axis=0))
    codes = model.sample(*model.encode(many)).data
    np.testing.assert_allclose(codes.mean(axis=0), mean.data[0], atol=0.03)
    np.testing.assert_allclose(np.log(codes.var(axis=0)), log_variance.data[0], atol=0.05)
    model.train()
    assert not np.array_equal(model(x).data, model(x).data)


def test_a_number_of_the_plane_is_a_digit_for_its_neighbours_too():
    model: Any = zoo.load("vae.digits")
    data = zoo.get_recipe("vae.digits").data()
    zeros = model.encode(Tensor(data.test_x[data.test_y == 0]))[0].data
    drawn = model.decode(Tensor(zeros.mean(axis=0, keepdims=True))).sigmoid()
    assert zoo.load("simple-mlp.digits").predict(drawn.data.reshape(8, 8))[0].label == 0
