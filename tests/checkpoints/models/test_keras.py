"""Keras models: names that do not depend on the process, exact variables, and both backends.

The backend of this process is PyTorch. One test runs some of the others on JAX, in another process.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo.checkpoints import (
    History,
    MismatchError,
    StateError,
    diff,
    fingerprint,
    inspect,
    load_file,
    load_model,
    load_training,
    save_file,
    save_model,
    save_training,
)
from statezoo.checkpoints.testing import assert_roundtrip

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]
os.environ.setdefault("KERAS_BACKEND", "torch")
_ON_JAX = "not h5 and (seeds or two or itself or lora or here)"
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def keras() -> Any:
    return pytest.importorskip("keras")


@pytest.fixture
def build(keras: Any) -> Callable[[int], Any]:
    def build(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((4,))
        shared = keras.layers.Dense(4, name=f"shared_{seed}")
        x = keras.layers.Dense(4, activation="relu")(inputs)
        x = keras.layers.BatchNormalization()(keras.layers.Dropout(0.5)(x))
        x = shared(shared(x))
        return keras.Model(inputs, keras.layers.Dense(2, dtype="bfloat16")(x))

    return build


def values(model: Any) -> list[tuple[str, bytes]]:
    return [(str(v.dtype), np.asarray(v).tobytes()) for v in model.variables]


def outputs(model: Any) -> np.ndarray:
    return np.asarray(model.predict(X, verbose=0), np.float32)


def trained(build: Callable[[int], Any], seed: int = 0) -> Any:
    model = build(seed)
    model.compile("adam", "mse")
    model.fit(X, np.ones((3, 2)), verbose=0)
    return model


def test_a_model_loads_into_another_one_of_the_same_process(path: Path, build: Callable[[int], Any]):
    model, other = trained(build), build(1)
    save_model(model, path)
    variables = [id(variable) for variable in other.variables]
    assert load_model(other, path) == ([], [])
    assert values(other) == values(model)
    assert [id(variable) for variable in other.variables] == variables
    assert np.array_equal(outputs(other), outputs(model))
    assert fingerprint(other) == fingerprint(model) == fingerprint(path)
    assert diff(other, path).same


def test_names_are_those_of_keras(path: Path, tmp_path: Path, keras: Any, build: Callable[[int], Any]):
    model = build(0)
    save_model(model, path)
    weights = tmp_path / "keras.weights.h5"
    model.save_weights(weights)
    own = [name for name in load_file(path) if "seed_generators" not in name]
    assert sorted(own) == sorted(load_file(weights))
    assert "layers.dense_1.vars.0" in own  # the layer named shared_0
    assert "layers.dropout.seed_generators.vars.0" in load_file(path)


def test_a_file_of_keras_loads_although_it_holds_an_optimizer(tmp_path: Path, build: Callable[[int], Any]):
    model, other = trained(build), build(1)
    for name in ("model.weights.h5", "model.keras"):
        (model.save_weights if name.endswith("h5") else model.save)(tmp_path / name)
        assert any(entry.startswith("optimizer.") for entry in load_file(tmp_path / name))
        other = build(1)
        assert load_model(other, tmp_path / name) == ([], [])
        assert np.array_equal(outputs(other), outputs(model))


def test_keras_opens_what_is_saved_in_its_layout(tmp_path: Path, build: Callable[[int], Any]):
    model, other = build(0), build(1)
    save_model(model, tmp_path / "model.weights.h5", layout="keras")
    other.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(outputs(other), outputs(model))


def test_seeds_are_state(path: Path, keras: Any, build: Callable[[int], Any]):
    model, other = build(0), build(1)
    model(X, training=True)
    save_model(model, path)
    load_model(other, path)
    assert values(other) == values(model)
    if keras.backend.backend() == "jax":  # with PyTorch, Keras draws from the generator of PyTorch
        first, second = (keras.ops.convert_to_numpy(net(X, training=True)) for net in (model, other))
        assert np.array_equal(first, second)


@pytest.fixture
def subclassed(keras: Any) -> Any:
    class Tied(keras.layers.Layer):
        """A layer whose kernel is a variable of another one."""

        def __init__(self, source: Any) -> None:
            super().__init__()
            self.kernel = source.kernel
            self.bias = self.add_weight(shape=(4,))

        def call(self, x: Any) -> Any:
            return keras.ops.matmul(x, self.kernel) + self.bias

    class Net(keras.Model):
        """Layers in containers, a variable and an optimizer of its own."""

        def __init__(self, is_tied: bool) -> None:
            super().__init__()
            self.first = keras.layers.Dense(4)
            self.first.build((None, 4))
            self.blocks = [Tied(self.first) if is_tied else keras.layers.Dense(4), {"inner": keras.layers.Dense(4)}]
            self.scale = self.add_weight(shape=(2,), initializer="uniform")
            self.g_optimizer = keras.optimizers.Adam()
            self.noise = keras.random.SeedGenerator(3)

        def call(self, x: Any) -> Any:
            return self.blocks[1]["inner"](self.blocks[0](self.first(x)))

    def make(seed: int, is_tied: bool = True) -> Any:
        keras.utils.set_random_seed(seed)
        model = Net(is_tied)
        model(X)
        return model

    return make


def test_a_model_that_is_a_class_of_the_user(path: Path, tmp_path: Path, subclassed: Any):
    model, other = subclassed(0, is_tied=False), subclassed(1, is_tied=False)
    save_model(model, path)
    names = list(load_file(path))
    assert {"vars.0", "seed_generators.vars.0", "first.vars.0", "blocks.dense.vars.1"} <= set(names)
    assert not any("optimizer" in name for name in names)
    assert load_model(other, path) == ([], [])
    assert values(other) == values(model)
    model.save_weights(tmp_path / "net.weights.h5")
    assert load_model(subclassed(2, is_tied=False), tmp_path / "net.weights.h5") == ([], [])


def test_a_variable_in_two_layers_is_tied(path: Path, subclassed: Any):
    model, other = subclassed(0), subclassed(1)
    save_model(model, path)
    state = load_file(path)
    assert state["blocks.tied.vars.0"] is state["first.vars.0"]
    assert load_model(other, path) == ([], [])
    assert other.blocks[0].kernel is other.first.kernel
    assert values(other) == values(model)
    save_file({name: array.copy() + (name == "first.vars.0") for name, array in state.items()}, path)
    with pytest.raises(MismatchError, match=r"shares memory with .* in the model, but the file has different values"):
        load_model(other, path)
    assert values(other) == values(model)


def test_equal_values_in_two_variables_are_no_tie(path: Path, keras: Any, build: Callable[[int], Any]):
    model = build(0)
    model.layers[1].bias.assign(model.layers[3].beta)  # with JAX, both now hold one array
    model.layers[3].beta.assign(model.layers[1].bias)
    save_model(model, path)
    assert [tensor.name for tensor in inspect(path).tensors if tensor.shares_with] == []
    assert load_model(build(1), path) == ([], [])


def test_an_unbuilt_model_is_refused(path: Path, keras: Any):
    model = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(StateError, match=r"Sequential is not built, so it has no variables yet\. Call it on some data"):
        save_model(model, path)
    assert not path.exists()


def test_every_mismatch_is_in_one_error_and_nothing_changes(path: Path, build: Callable[[int], Any]):
    save_model(build(0), path)
    state = load_file(path)
    state["layers.dense_7.vars.0"] = state.pop("layers.dense_2.vars.0")
    state["layers.dense.vars.1"] = np.zeros(9, np.float32)
    save_file(state, path)
    model = build(1)
    before = values(model)
    with pytest.raises(MismatchError) as caught:
        load_model(model, path)
    text = str(caught.value)
    assert "layers.dense.vars.1    is (9,) in the file, (4,) in the model" in text
    assert "layers.dense_2.vars.0  is missing from the file" in text
    assert "layers.dense_7.vars.0  is not in the model; did you mean layers.dense_2.vars.0?" in text
    assert values(model) == before


def test_layers_with_lora_keep_all_their_variables(path: Path, keras: Any):
    def adapted(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.layers[0].enable_lora(2)
        model.layers[0].lora_kernel_b.assign(np.full((2, 3), seed))
        return model

    model, other = adapted(1), adapted(2)
    save_model(model, path)
    assert list(load_file(path)) == [f"layers.dense.lora.vars.{place}" for place in range(4)]
    load_model(other, path)
    assert values(other) == values(model)


@pytest.fixture
def stubborn(keras: Any) -> Any:
    class Stubborn(keras.layers.Layer):
        """A layer that saves its state by methods of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.table = np.zeros(3)

        def save_own_variables(self, store: Any) -> None:
            store["table"] = self.table

        def load_own_variables(self, store: Any) -> None:
            self.table = np.array(store["table"])
            if self.table[0] < 0:
                raise ValueError("negative")

        def call(self, x: Any) -> Any:
            return x

    return lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), Stubborn()])


def test_a_layer_that_saves_itself_is_asked_to_and_undone_if_it_raises(path: Path, stubborn: Any):
    model, other = stubborn(), stubborn()
    model.layers[1].table = np.array([1.0, 2, 3])
    save_model(model, path)
    load_model(other, path)
    assert other.layers[1].table.tolist() == [1, 2, 3]
    model.layers[1].table[0] = -1
    save_model(model, path)
    fresh = stubborn()
    before = values(fresh)
    with pytest.raises(MismatchError, match=r"was refused by Stubborn\.load_own_variables\(\): ValueError: negative"):
        load_model(fresh, path)
    assert values(fresh) == before
    assert fresh.layers[1].table.tolist() == [0, 0, 0]


def test_a_history_and_a_roundtrip_take_a_model(tmp_path: Path, build: Callable[[int], Any]):
    model = build(0)
    assert_roundtrip(model)
    with History(tmp_path / "run", background=True) as history:
        history.save(1, model)
    latest = history.latest()
    assert latest is not None
    assert diff(model, latest.path).same


def compiled(keras: Any, build: Callable[[int], Any], seed: int, **options: Any) -> Any:
    model = build(seed)
    model.compile(keras.optimizers.AdamW(1e-2, **options), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_training_continues_bit_for_bit(path: Path, keras: Any, build: Callable[[int], Any]):
    model, other = compiled(keras, build, 0), compiled(keras, build, 1)
    order, again = np.random.default_rng(1), np.random.default_rng(2)
    model.train_on_batch(X, np.ones((3, 2)))
    model.optimizer.learning_rate = 0.5
    save_training(model, model.optimizer, path, generators={"order": order}, progress={"epoch": 3})
    assert load_training(other, other.optimizer, path, generators={"order": again}) == {"epoch": 3}
    assert order.random() == again.random()
    for net in (model, other):
        keras.utils.set_random_seed(5)  # with PyTorch, the dropout draws from its generator
        net.train_on_batch(X, np.ones((3, 2)))
    assert values(other) == values(model)
    assert fingerprint(other.optimizer) == fingerprint(model.optimizer)


def test_a_training_that_does_not_fit_changes_nothing(path: Path, keras: Any, build: Callable[[int], Any]):
    model = compiled(keras, build, 0)
    save_training(model, model.optimizer, path)
    other = compiled(keras, build, 1, weight_decay=0.25)
    before = values(other), fingerprint(other.optimizer)
    with pytest.raises(MismatchError, match=r"optimizer\.weight_decay is 0\.004 in the file, 0\.25 here"):
        load_training(other, other.optimizer, path)
    with pytest.raises(MismatchError, match="optimizer is AdamW in the file, SGD here"):
        load_training(other, (sgd := keras.optimizers.SGD(1e-2)).build(other.trainable_variables) or sgd, path)
    with pytest.raises(StateError, match="the optimizer AdamW is not built, so it has no state yet"):
        load_training(other, keras.optimizers.AdamW(), path)
    assert (values(other), fingerprint(other.optimizer)) == before
    assert load_training(other, other.optimizer, path, allow={"weight_decay"}) == {}
    assert values(other) == values(model)


@pytest.mark.jax
def test_the_file_of_one_backend_loads_in_another(tmp_path: Path, build: Callable[[int], Any]):
    if os.environ["KERAS_BACKEND"] != "torch":
        return
    model = trained(build)
    save_model(model, tmp_path / "model.safetensors")
    np.save(tmp_path / "outputs.npy", outputs(model))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", _ON_JAX, __file__],
        env=os.environ | {"KERAS_BACKEND": "jax", "STATEZOO_FROM_TORCH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif("STATEZOO_FROM_TORCH" not in os.environ, reason="run by the test above")
def test_the_file_of_the_other_backend_loads_here(build: Callable[[int], Any]):
    folder = Path(os.environ["STATEZOO_FROM_TORCH"])
    model = build(1)
    assert load_model(model, folder / "model.safetensors") == ([], [])
    assert fingerprint(model) == fingerprint(folder / "model.safetensors")
    np.testing.assert_allclose(outputs(model), np.load(folder / "outputs.npy"), rtol=1e-2)
