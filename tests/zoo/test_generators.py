"""The zoo neither reads nor moves the global random generators: NumPy's, and the default one of core."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import zoo
from statezoo.core import get_rng_state, manual_seed, randn
from statezoo.zoo.data.images import EXAMPLE


class Places:
    """What the calls work on: a finished run, its entry and a folder to write into."""

    def __init__(self, recipe: zoo.Recipe, run: Path, entry: Path, scratch: Path) -> None:
        self.recipe, self.run, self.entry, self.scratch = recipe, run, f"file:{entry}", scratch


def trained(places: Places) -> list[bytes]:
    shutil.rmtree(places.scratch / "run", ignore_errors=True)
    return state(zoo.train(places.recipe, places.scratch / "run").model)


def published(places: Places) -> list[bytes]:
    entry = zoo.publish(places.run, places.scratch / "zoo", force=True)
    return [path.read_bytes() for path in sorted(entry.iterdir())]


def state(model: Any) -> list[bytes]:
    return [array.tobytes() for array in model.state_dict().values()]


CALLS: dict[str, Callable[[Places], Any]] = {
    "load": lambda places: state(zoo.load(places.entry)),
    "load hdf5": lambda places: state(zoo.load(places.entry, "hdf5")),
    "card": lambda places: zoo.card(places.entry),
    "list_models": lambda places: zoo.list_models(),
    "verify": lambda places: zoo.verify(places.entry),
    "open_run": lambda places: state(zoo.open_run(places.run).model),
    "train": trained,
    "publish": published,
    "trajectory": lambda places: [state(model) for model in zoo.trajectory("tense-mlp")[:2]],
    "recipes": lambda places: zoo.recipes(),
    "data of recipes": lambda places: [
        zoo.get_recipe(name).data().sha256 for name in ("simple-mlp.digits", "tense-mlp")
    ],
    "predict a plane": lambda places: zoo.load("linear-regression").predict(3, 4).tolist(),
    "predict a tense": lambda places: zoo.load("tense-mlp").predict("hablar", "yo"),
    "predict a digit": lambda places: zoo.load("simple-mlp.digits-bn").predict(EXAMPLE),
    "predict an image": lambda places: zoo.load("tied-autoencoder.digits").predict(EXAMPLE).tolist(),
    "predict sorted digits": lambda places: zoo.load("transformer-block.sort").predict("352914"),
    "repro": lambda places: zoo.repro("linear-regression").identical,
    "export": lambda places: zoo.export("tense-mlp", places.scratch / "model.onnx").read_bytes(),
}
MARKS = {"repro": [pytest.mark.slow], "export": [pytest.mark.onnx]}


def generators() -> str:
    return repr((get_rng_state(), np.random.get_state()))  # noqa: NPY002


def seed(number: int) -> None:
    manual_seed(number)
    np.random.seed(number)  # noqa: NPY002


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in CALLS])
def test_a_call_neither_reads_nor_moves_a_global_generator(
    name: str, tiny_recipe: zoo.Recipe, tiny_run: Path, published_once: Path, tmp_path: Path
):
    places = Places(tiny_recipe, tiny_run, published_once, tmp_path)
    seed(1)
    before = generators()
    with_one_seed = CALLS[name](places)
    assert generators() == before
    seed(2)
    assert CALLS[name](places) == with_one_seed


def test_create_model_draws_from_the_default_generator_and_from_no_other():
    seed(1)
    before = repr(np.random.get_state())  # noqa: NPY002
    one = state(zoo.create_model("tense-mlp"))
    assert repr(np.random.get_state()) == before  # noqa: NPY002
    drawn = randn(2).data
    seed(1)
    assert state(zoo.create_model("tense-mlp")) == one
    assert np.array_equal(randn(2).data, drawn)
    seed(2)
    assert state(zoo.create_model("tense-mlp")) != one
