"""MLX modules and arrays: what a file holds of them, and what a load puts in their place."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statezoo.checkpoints import MismatchError, diff, fingerprint, inspect, load_file, load_model, save_file, save_model
from statezoo.checkpoints.formats import written_formats
from statezoo.checkpoints.testing import assert_roundtrip

pytestmark = pytest.mark.mlx


@pytest.fixture(scope="module")
def mx() -> Any:
    return pytest.importorskip("mlx.core")


@pytest.fixture
def net(mx: Any) -> Any:
    nn = pytest.importorskip("mlx.nn")

    class Net(nn.Module):
        """Layers in a list, one of them twice, a tied weight, statistics, and arrays in a dict."""

        def __init__(self, seed: int, is_tied: bool = True) -> None:
            super().__init__()
            mx.random.seed(seed)
            first = nn.Linear(3, 3)
            self.layers = [first, nn.Linear(3, 3), first if is_tied else nn.Linear(3, 3)]
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            if is_tied:
                self.head.weight = self.embedding.weight
            self.norm = nn.BatchNorm(3)
            self.extra = {"scale": mx.random.normal((2,)).astype(mx.bfloat16), "list": [mx.array([seed + 0.5])]}
            self._private = mx.zeros(2)
            self.width = 3

    return Net


def values(model: Any) -> dict[str, Any]:
    flat: Any = pytest.importorskip("mlx.utils").tree_flatten(model.parameters())
    return {name: (str(array.dtype), array.tolist()) for name, array in flat}


def test_a_module_is_saved_and_loaded_under_the_names_of_mlx(path: Path, mx: Any, net: Any):
    model, other = net(0), net(1)
    save_model(model, path)
    assert list(load_file(path)) == list(values(model))
    assert load_model(other, path) == ([], [])
    assert values(other) == values(model)
    assert other.layers[0] is other.layers[2]
    assert other.head.weight is other.embedding.weight
    assert fingerprint(other) == fingerprint(path)
    assert diff(model, path).same
    assert_roundtrip(model)
    assert values(other) == values(model)


def test_ties_are_stored_once(path: Path, mx: Any, net: Any):
    save_model(net(0), path)
    tied = inspect(path).stored_bytes
    save_model(net(0, is_tied=False), path)
    assert inspect(path).stored_bytes - tied == (5 * 3 + 3 * 3 + 3) * 4


def test_a_tied_weight_that_training_has_untied_is_loaded_as_it_is(path: Path, mx: Any, net: Any):
    trained = net(0)
    trained.head.weight = trained.head.weight + 1  # as an optimizer does
    save_model(trained, path)
    fresh = net(1)
    assert load_model(fresh, path) == ([], [])
    assert values(fresh) == values(trained)
    save_model(net(2), path)
    assert load_model(fresh, path) == ([], [])
    assert fresh.head.weight is fresh.embedding.weight


def test_a_layer_in_two_places_takes_no_two_values(path: Path, mx: Any, net: Any):
    save_model(net(0, is_tied=False), path)
    fresh = net(1)
    before = values(fresh)
    with pytest.raises(
        MismatchError, match=r"layers\.0\.weight  shares memory with layers\.2\.weight in the model, but"
    ):
        load_model(fresh, path)
    assert values(fresh) == before


def test_every_mismatch_is_in_one_error_and_nothing_changes(path: Path, mx: Any, net: Any):
    state = load_state(net(0), path)
    state["norm.biasx"] = state.pop("norm.bias")
    state["layers.1.bias"] = np.zeros(7, np.float32)
    save_file(state, path)
    fresh = net(1)
    before = values(fresh)
    with pytest.raises(MismatchError) as caught:
        load_model(fresh, path)
    assert "layers.1.bias  is (7,) in the file, (3,) in the model" in str(caught.value)
    assert "norm.biasx     is not in the model; did you mean norm.bias?" in str(caught.value)
    assert values(fresh) == before


def load_state(model: Any, path: Path) -> dict[str, Any]:
    save_model(model, path)
    return load_file(path)


def test_a_training_continues_with_the_state_of_its_optimizer(path: Path, mx: Any, net: Any):
    nn, optim = pytest.importorskip("mlx.nn"), pytest.importorskip("mlx.optimizers")

    def step(model: Any, optimizer: Any) -> None:
        def loss(model: Any) -> Any:
            return ((model.layers[1](mx.ones((2, 3))) - 1) ** 2).mean()

        _, gradients = nn.value_and_grad(model, loss)(model)
        optimizer.update(model, gradients)

    model, optimizer = net(0, is_tied=False), optim.Adam(1e-2)
    step(model, optimizer)
    save_model({"model": model.parameters(), "optimizer": optimizer.state}, path)
    fresh, other = net(1, is_tied=False), optim.Adam(1e-2)
    other.init(fresh.trainable_parameters())
    loaded = load_model({"model": fresh.parameters(), "optimizer": other.state}, path)
    fresh.update(loaded["model"])
    other.state = loaded["optimizer"]
    step(model, optimizer)
    step(fresh, other)
    assert values(fresh) == values(model)


DTYPES = {
    "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64,
    "complex64": np.complex64, "bool_": np.bool_, "int8": np.int8, "uint16": np.uint16, "int64": np.int64,
}  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(sorted(DTYPES)), shape=st.sampled_from([(), (0,), (3,), (2, 3)]), raw=st.binary(min_size=48)
)
def test_every_bit_of_every_dtype_survives(
    tmp_path_factory: pytest.TempPathFactory, mx: Any, kind: str, shape: tuple[int, ...], raw: bytes
):
    dtype, folder = np.dtype(DTYPES[kind]), tmp_path_factory.mktemp("mlx")
    size = int(np.prod(shape)) * dtype.itemsize
    bits = np.frombuffer(raw[:size], np.uint8)
    array = (bits % 2 if kind == "bool_" else bits).view(dtype).reshape(shape)
    tree = {"w": mx.zeros(shape, getattr(mx, kind)), "list": [mx.array(1.0)]}
    for form in written_formats():
        path = folder / f"tree{form.suffix}"
        save_file({"w": array, "list.0": np.float32(2)}, path)
        loaded = load_model(tree, path)
        assert isinstance(loaded["w"], mx.array)
        assert loaded["w"].dtype == getattr(mx, kind)
        save_model(loaded, path)
        saved = load_file(path)["w"]
        assert (saved.dtype, saved.shape, saved.tobytes()) == (dtype, shape, array.tobytes())
        assert tree["list"][0].item() == 1


def test_arrays_of_mlx_in_a_dict_are_saved_by_save_file_too(path: Path, mx: Any):
    weight = mx.arange(6, dtype=mx.bfloat16).reshape(2, 3)
    save_file({"w": weight, "tied": weight, "t": mx.arange(6).reshape(2, 3).T}, path)
    loaded = load_file(path)
    assert loaded["w"].dtype == ml_dtypes.bfloat16
    assert loaded["w"].astype(int).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded["tied"] is loaded["w"]
    assert loaded["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
