"""Pytrees of JAX, modules of equinox and flax: what a file holds of them, and what a load makes."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_trees import described, ties_in, trees
from hypothesis import given, settings

from statezoo import core
from statezoo.checkpoints import (
    History,
    MismatchError,
    UnsupportedTypeError,
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
from statezoo.checkpoints.formats import written_formats
from statezoo.checkpoints.testing import assert_roundtrip

pytestmark = pytest.mark.jax


@pytest.fixture(scope="module")
def jax() -> Any:
    return pytest.importorskip("jax")


@pytest.fixture(scope="module")
def eqx(jax: Any) -> Any:
    return pytest.importorskip("equinox")


@pytest.fixture(scope="module")
def nnx(jax: Any) -> Any:
    return pytest.importorskip("flax.nnx")


def zeros_like(jax: Any, tree: Any) -> Any:
    """Return a tree of the same structure with zeros. Nothing is compiled."""
    return jax.tree.map(
        lambda leaf: (
            type(leaf)(0) if isinstance(leaf, int | float) else jax.device_put(np.zeros(leaf.shape, leaf.dtype))
        ),
        tree,
    )


@settings(max_examples=20, deadline=None)
@given(data=trees(lambda array: array))
def test_any_pytree_comes_back_with_its_structure_bits_and_ties(
    tmp_path_factory: pytest.TempPathFactory, jax: Any, data: Any
):
    made: dict[int, Any] = {}
    tree = jax.tree.map(
        lambda leaf: made.setdefault(id(leaf), jax.device_put(leaf)) if isinstance(leaf, np.ndarray) else leaf, data
    )
    folder, other = tmp_path_factory.mktemp("tree"), zeros_like(jax, tree)
    for form in written_formats():
        path = folder / f"tree{form.suffix}"
        save_model(tree, path)
        before = described(other)
        loaded = load_model(other, path)
        assert described(loaded) == described(tree)
        assert jax.tree.structure(loaded) == jax.tree.structure(tree)
        assert ties_in(loaded) == ties_in(tree)
        assert described(other) == before
        assert fingerprint(tree) == fingerprint(path) == fingerprint(loaded)


def test_arrays_on_the_cpu_are_saved_from_their_own_memory(jax: Any):
    from statezoo.checkpoints.models import state_of

    array = jax.numpy.arange(6.0).astype("bfloat16")
    (saved,) = state_of({"nested": [array]}).values()
    assert saved.__array_interface__["data"][0] == array.unsafe_buffer_pointer()


def test_a_training_with_optax_continues_from_a_history(tmp_path: Path, jax: Any):
    optax = pytest.importorskip("optax")
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    inputs = jax.numpy.linspace(-1, 1, 12).reshape(4, 3)

    @jax.jit
    def step(state: Any) -> Any:
        gradient = jax.grad(lambda p: ((inputs @ p["w"] + p["b"] - 1) ** 2).mean())(state["params"])
        updates, opt_state = optimizer.update(gradient, state["opt_state"], state["params"])
        return {**state, "params": optax.apply_updates(state["params"], updates), "opt_state": opt_state}

    def start(seed: int) -> Any:
        params = {"w": jax.random.normal(jax.random.key(seed), (3, 2)), "b": jax.numpy.zeros(2)}
        return {"params": params, "opt_state": optimizer.init(params), "rng": jax.random.key(seed)}

    state = step(step(start(0)))
    with History(tmp_path / "run", background=True) as history:
        history.save(2, state)
        expected = step(state)  # donates nothing, and changes nothing of what is saved
    latest = history.latest()
    assert latest is not None
    loaded = load_model(start(1), latest.path)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert fingerprint(step(loaded)) == fingerprint(expected)
    names = list(load_file(latest.path))
    assert "opt_state.1.0.mu.w" in names
    assert "rng" in names


def test_ties_are_stored_once_and_come_back_as_one_object(path: Path, jax: Any):
    weight = jax.numpy.ones((64, 64))
    save_model({"embedding": weight, "head": [weight]}, path)
    assert inspect(path).stored_bytes == weight.nbytes
    apart = {"embedding": weight * 0, "head": [weight * 2]}
    loaded = load_model(apart, path)
    assert loaded["embedding"] is loaded["head"][0]
    save_model(apart, path)
    loaded = load_model({"embedding": weight, "head": [weight]}, path)  # a tie of the old tree holds nothing
    assert [float(loaded["embedding"].sum()), float(loaded["head"][0].sum())] == [0, 2 * 64 * 64]


def test_dtypes_that_no_file_holds_are_refused_by_name(path: Path, jax: Any):
    with pytest.raises(UnsupportedTypeError, match=r"'layer\.w' has the dtype int4"):
        save_model({"layer": {"w": jax.numpy.zeros(2, "int4")}}, path)
    deleted = jax.numpy.zeros(2)
    deleted.delete()
    with pytest.raises(UnsupportedTypeError, match=r"'layer\.w' cannot be read as a NumPy array: .*deleted"):
        save_model({"layer": {"w": deleted}}, path)
    with pytest.raises(UnsupportedTypeError, match=r"'layer\.w' cannot be read as a NumPy array: .*traced array"):
        jax.jit(lambda w: save_model({"layer": {"w": w}}, path))(jax.numpy.zeros(2))
    assert not path.exists()


@pytest.mark.parametrize("algorithm", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_keep_their_algorithm(path: Path, jax: Any, algorithm: str):
    keys = jax.random.split(jax.random.key(3, impl=algorithm), 2)
    save_model({"rng": keys, "legacy": jax.random.PRNGKey(1)}, path)
    assert load_file(path)["rng._extra_state"] == algorithm
    other = {"rng": jax.random.split(jax.random.key(0, impl=algorithm), 2), "legacy": jax.random.PRNGKey(0)}
    loaded = load_model(other, path)
    assert loaded["rng"].dtype == keys.dtype
    assert (jax.random.key_data(loaded["rng"]) == jax.random.key_data(keys)).all()
    assert (jax.random.normal(loaded["rng"][1], (2,)) == jax.random.normal(keys[1], (2,))).all()
    another = {"rbg": "unsafe_rbg", "unsafe_rbg": "rbg"}.get(algorithm)
    if another:
        with pytest.raises(
            MismatchError, match=f"is the algorithm '{algorithm}' in the file, '{another}' in the model"
        ):
            load_model({**other, "rng": jax.random.split(jax.random.key(0, impl=another), 2)}, path)
    without = {name: value for name, value in load_file(path).items() if name != "rng._extra_state"}
    save_file(without, path)
    assert (load_model(other, path)["legacy"] == jax.random.PRNGKey(1)).all()


def test_abstract_trees_are_filled(path: Path, jax: Any):
    tree = {"w": jax.numpy.arange(6.0).reshape(2, 3), "rng": jax.random.key(2)}
    save_model(tree, path)
    loaded = load_model(jax.eval_shape(lambda: tree), path)
    assert described(loaded["w"]) == described(tree["w"])
    assert (jax.random.key_data(loaded["rng"]) == jax.random.key_data(tree["rng"])).all()


def test_arrays_go_to_the_devices_of_the_old_ones(tmp_path: Path, jax: Any):
    program = """
import jax, numpy as np, sys
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from statezoo.checkpoints import load_model, save_model
first, second = jax.devices()
split = NamedSharding(Mesh(np.array(jax.devices()), ("x",)), P("x"))
w = jax.numpy.arange(8.0)
tree = {"split": jax.device_put(w, split), "second": jax.device_put(w, second), "free": w, "tied": w}
save_model(tree, sys.argv[1])
loaded = load_model(jax.tree.map(lambda a: a * 0, tree), sys.argv[1])
assert {name: array.sharding for name, array in loaded.items()} == {name: a.sharding for name, a in tree.items()}
assert all((loaded[name] == tree[name]).all() for name in tree)
assert not loaded["free"].committed and loaded["second"].committed
assert loaded["free"] is loaded["tied"]
(loaded["free"] + loaded["second"]).block_until_ready()
"""
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tree.h5")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_module_of_equinox_comes_back_equal(path: Path, jax: Any, eqx: Any):
    model, other = (eqx.nn.MLP(2, 3, 4, depth=1, key=jax.random.key(seed)) for seed in (0, 1))
    save_model(model, path)
    assert list(load_file(path)) == ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    loaded = load_model(other, path)
    assert eqx.tree_equal(loaded, model)
    assert not eqx.tree_equal(other, model)
    assert loaded.activation is other.activation
    assert (loaded(jax.numpy.ones(2)) == model(jax.numpy.ones(2))).all()
    assert diff(loaded, path).same
    assert_roundtrip(model)


def test_numbers_in_a_module_are_state_that_a_file_may_lack(path: Path, jax: Any, eqx: Any):
    model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="ema")
    dropout = eqx.nn.Dropout(0.25)
    save_model((model, state, dropout), path)
    loaded = load_model((model, state, eqx.nn.Dropout(0.5)), path)
    assert loaded[2].p == 0.25
    assert eqx.tree_equal(loaded[0], model)
    save_file({name: value for name, value in load_file(path).items() if name != "2.p"}, path)
    assert load_model((model, state, eqx.nn.Dropout(0.5)), path)[2].p == 0.5


def test_arrays_that_jax_does_not_see_are_not_lost_silently(path: Path, jax: Any, eqx: Any):
    class Plain:
        def __init__(self) -> None:
            self.weight = jax.numpy.ones(2)

    class Holder(eqx.Module):
        inner: Any

    with pytest.raises(
        UnsupportedTypeError, match=r"'inner' is a Plain with an array in 'weight'.*Register Plain as a"
    ):
        save_model(Holder(Plain()), path)


def test_a_dataclass_that_is_registered_is_a_tree(path: Path, jax: Any):
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class State:
        params: Any
        step: int
        name: str = dataclasses.field(metadata={"static": True}, default="net")

    save_model(State({"w": jax.numpy.ones(2)}, 3), path)
    assert list(load_file(path)) == ["params.w", "step"]
    loaded = load_model(State({"w": jax.numpy.zeros(2)}, 0, "other"), path)
    assert (loaded.step, loaded.name, loaded.params["w"].tolist()) == (3, "other", [1, 1])


@pytest.fixture
def net(nnx: Any, jax: Any) -> Any:
    class Net(nnx.Module):
        def __init__(self, seed: int, is_tied: bool = True) -> None:
            rngs = nnx.Rngs(seed)
            self.first = nnx.Linear(3, 3, rngs=rngs)
            self.second = nnx.Linear(3, 3, rngs=rngs)
            if is_tied:
                self.second.kernel = self.first.kernel
            self.norm = nnx.BatchNorm(3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(3, 2, rngs=rngs, param_dtype="bfloat16")])
            self.scale = jax.numpy.full(2, seed)

        def __call__(self, x: Any) -> Any:
            return self.blocks[0](self.dropout(self.norm(self.second(self.first(x)))))

    return Net


def test_a_module_of_flax_is_changed_in_place(path: Path, jax: Any, nnx: Any, net: Any):
    model, other = net(0), net(1)
    model(jax.numpy.arange(6.0).reshape(2, 3))  # moves the statistics and the counter of the dropout
    save_model(model, path)
    variable = other.first.kernel
    assert load_model(other, path) == ([], [])
    assert other.first.kernel is variable is other.second.kernel
    assert fingerprint(other) == fingerprint(model) == fingerprint(path)
    assert (other(jax.numpy.ones((2, 3))) == model(jax.numpy.ones((2, 3)))).all()
    names = list(load_file(path))
    assert {"first.kernel", "second.kernel", "blocks.0.bias", "dropout.rngs.key", "norm.mean", "scale"} <= set(names)
    assert_roundtrip(net(2))


def test_ties_of_flax_are_those_of_its_variables(path: Path, jax: Any, nnx: Any, net: Any):
    save_model(net(0), path)
    apart = net(1, is_tied=False)
    with pytest.raises(
        MismatchError, match=r"second\.kernel  shares memory with first\.kernel in the file, not in the"
    ):
        load_model(apart, path)
    assert load_model(apart, path, ties="copy") == ([], [])
    # Two variables may hold one array, as it does not change.
    apart.second.kernel[...] = apart.first.kernel[...]
    apart.second.kernel.set_raw_value(apart.first.kernel.get_raw_value())
    save_model(apart, path)
    assert load_model(net(2, is_tied=False), path) == ([], [])
    before = fingerprint(tied := net(3))
    save_model(net(4, is_tied=False), path)
    with pytest.raises(MismatchError, match=r"shares memory with .* in the model, but the file has different values"):
        load_model(tied, path)
    assert fingerprint(tied) == before


def test_a_state_of_flax_is_a_tree_with_the_names_of_its_module(path: Path, jax: Any, nnx: Any, net: Any):
    model = net(0, is_tied=False)
    state = nnx.state(model)
    save_model(state, path)
    other = net(1, is_tied=False)
    assert load_model(other, path) == ([], [])
    assert fingerprint(other) == fingerprint(model)
    loaded = load_model(nnx.state(net(2, is_tied=False)), path)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert fingerprint(loaded) == fingerprint(state)


def test_an_optimizer_of_flax_is_loaded_with_its_model(path: Path, jax: Any, nnx: Any, net: Any):
    optax = pytest.importorskip("optax")

    def training(seed: int) -> tuple[Any, Any]:
        model = net(seed)
        return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    def step(model: Any, optimizer: Any) -> None:
        optimizer.update(model, nnx.grad(lambda m: (m(jax.numpy.ones((2, 3))) ** 2).mean())(model))

    trained, other = training(0), training(1)
    step(*trained)
    save_model(trained, path)
    before = fingerprint(other)
    loaded = load_model(other, path)  # a tuple is a tree: the new one has new modules
    assert fingerprint(loaded) == fingerprint(trained)
    assert fingerprint(other) == before
    step(*trained)
    step(*loaded)
    assert fingerprint(loaded) == fingerprint(trained)


def test_a_training_of_flax_is_saved_and_loaded_in_place(path: Path, jax: Any, nnx: Any):
    optax = pytest.importorskip("optax")

    def training(seed: int) -> tuple[Any, Any]:
        model = nnx.Linear(2, 2, rngs=nnx.Rngs(seed))
        return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)

    trained, other = training(0), training(1)
    trained[1].update(trained[0], jax.tree.map(jax.numpy.ones_like, nnx.state(trained[0], nnx.Param)))
    save_training(*trained, path, progress={"step": 1})
    assert load_training(*other, path) == {"step": 1}
    assert fingerprint(list(other)) == fingerprint(list(trained))


def test_params_of_linen_are_a_tree(path: Path, jax: Any):
    linen = pytest.importorskip("flax.linen")
    frozen = pytest.importorskip("flax.core")
    params = linen.Dense(2).init(jax.random.key(0), jax.numpy.ones((1, 3)))
    save_model(params, path)
    assert list(load_file(path)) == ["params.kernel", "params.bias"]
    loaded = load_model(frozen.freeze(linen.Dense(2).init(jax.random.key(1), jax.numpy.ones((1, 3)))), path)
    assert isinstance(loaded, frozen.FrozenDict)
    assert (loaded["params"]["kernel"] == params["params"]["kernel"]).all()


def test_a_file_of_jax_loads_into_our_core_with_a_mapping(path: Path, jax: Any, eqx: Any):
    from statezoo.checkpoints.mapping import Rewrite

    model = eqx.nn.MLP(3, 2, 4, depth=1, activation=jax.nn.tanh, key=jax.random.key(0))
    save_model(model, path)
    ours = core.Sequential(core.Linear(3, 4), core.Tanh(), core.Linear(4, 2))
    load_model(ours, path, mapping=[Rewrite(r"layers\.0\.(.*)", r"0.\1"), Rewrite(r"layers\.1\.(.*)", r"2.\1")])
    x = np.linspace(-1, 1, 3, dtype=np.float32)
    np.testing.assert_allclose(ours(core.Tensor(x[None])).data[0], model(x), rtol=1e-5)
