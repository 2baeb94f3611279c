"""Each preset against the outputs of the library whose names it knows, in both directions."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statezoo import core as nn
from statezoo.checkpoints import MismatchError, convert, load_file, load_model, save_file, save_model
from statezoo.checkpoints.mapping import PRESETS, Ignore, Rename, Rewrite, StripPrefix

os.environ.setdefault("KERAS_BACKEND", "torch")
# What Keras and torch.compile warn about is not for us to change.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WIDTH, HEADS, HIDDEN = 16, 4, 24


def assert_near(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape).astype(np.float32)


def with_random_weights(model: Any) -> Any:
    """Give every parameter of a torch module random values: many start as 0 or 1, and GELU's kinds agree near 0."""
    import torch

    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.4)
    return model


def randomize(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Return random values for weights, all positive: one of them is the variance of a norm."""
    generator = np.random.default_rng(5)
    return [generator.uniform(0.5, 1.5, array.shape).astype(array.dtype) for array in arrays]


class Digits(nn.Module):
    """The counterpart of the Keras model below."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, WIDTH)
        self.dense = nn.Linear(WIDTH, HIDDEN)
        self.layer_normalization = nn.LayerNorm(HIDDEN, eps=1e-3)
        self.dense_1 = nn.Linear(HIDDEN, 5, bias=False)
        self.batch_normalization = nn.BatchNorm1d(5, eps=1e-3)

    def forward(self, tokens: Any) -> nn.Tensor:
        x = self.layer_normalization(self.dense(self.embedding(tokens)))
        return self.batch_normalization(self.dense_1(x))


def keras_digits() -> Any:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            layers.Embedding(10, WIDTH),
            layers.Dense(HIDDEN, name="a_name_that_the_file_does_not_have"),
            layers.LayerNormalization(),
            layers.Dropout(0.5),
            layers.Dense(5, use_bias=False),
            layers.BatchNormalization(),
        ]
    )
    model.set_weights(randomize(model.get_weights()))
    return model


@pytest.mark.keras
@pytest.mark.torch
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("theirs.weights.h5", lambda model, path: model.save_weights(path)),
        ("theirs.keras", lambda model, path: model.save(path)),
        ("theirs.safetensors", save_model),
    ],
)
def test_keras_layers_give_the_same_outputs_here(tmp_path: Path, name: str, save: Callable[[Any, Path], Any]):
    theirs, ours = keras_digits(), Digits()
    save(theirs, tmp_path / name)
    assert load_model(ours, tmp_path / name, mapping="keras") == ([], [])
    ours.eval()
    tokens = np.arange(10)
    assert_near(ours(tokens).data, theirs.predict(tokens, verbose=0))


@pytest.mark.keras
@pytest.mark.torch
def test_keras_loads_what_is_saved_with_its_mapping_and_layout(tmp_path: Path):
    ours, theirs = Digits(), keras_digits()
    ours(np.arange(10))  # the statistics of a batch
    ours.eval()
    save_model(ours, tmp_path / "ours.weights.h5", mapping="keras", layout="keras")
    theirs.load_weights(tmp_path / "ours.weights.h5")
    tokens = np.arange(10)
    assert_near(ours(tokens).data, theirs.predict(tokens, verbose=0))


@pytest.mark.keras
@pytest.mark.torch
def test_a_trained_keras_model_has_an_optimizer_that_the_preset_leaves_out(tmp_path: Path):
    theirs = keras_digits()
    theirs.compile("adam", "mse")
    theirs.fit(np.arange(10), normal(10, 5), verbose=0)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    assert set(load_file(tmp_path / "theirs.weights.h5", mapping="keras")) == set(Digits().state_dict())


def test_a_keras_normalization_without_a_scale_is_not_taken_for_one_without_a_shift(tmp_path: Path):
    save_file(
        {"layers.layer_normalization.vars.0": np.ones(3), "layers.dense.vars.0": np.ones((2, 3))}, tmp_path / "a.h5"
    )
    assert list(load_file(tmp_path / "a.h5", mapping="keras")) == ["layer_normalization.vars.0", "dense.weight"]


@pytest.mark.torch
@pytest.mark.transformers
@pytest.mark.parametrize("path", ["", "transformer.h.0."], ids=["a block", "a model"])
def test_a_gpt2_block_gives_the_same_outputs_here(tmp_path: Path, path: str):
    import torch
    from transformers import GPT2Config  # pyright: ignore[reportMissingImports]
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block  # pyright: ignore[reportMissingImports]

    config = GPT2Config(n_embd=WIDTH, n_head=HEADS, n_layer=1, n_inner=HIDDEN)
    config._attn_implementation = "eager"
    theirs = with_random_weights(GPT2Block(config, layer_idx=0).eval())
    ours = nn.TransformerBlock(WIDTH, HEADS, HIDDEN, activation=nn.GELU("tanh"))
    theirs_state = {f"{path}{name}": value for name, value in theirs.state_dict().items()}
    mask = {f"{path}attn.bias": np.ones((1, 1, 8, 8), bool)}  # in files of early versions
    save_file(theirs_state | mask, tmp_path / "theirs.safetensors")
    load_model(ours, tmp_path / "theirs.safetensors", mapping=["gpt2", *([StripPrefix(path)] if path else [])])

    x = normal(2, 8, WIDTH)
    hidden = torch.full((8, 8), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.no_grad():
        expected = theirs(torch.tensor(x), attention_mask=hidden)
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert_near(ours(nn.Tensor(x), is_causal=True).data, expected.numpy())

    save_model(ours, tmp_path / "ours.safetensors", mapping="gpt2")
    theirs.load_state_dict(
        {name: torch.tensor(value) for name, value in load_file(tmp_path / "ours.safetensors").items()}
    )
    with torch.no_grad():
        again = theirs(torch.tensor(x), attention_mask=hidden)
    np.testing.assert_array_equal((again[0] if isinstance(again, tuple) else again).numpy(), expected.numpy())


@pytest.mark.torch
@pytest.mark.parametrize("path", ["", "layers.1."], ids=["a layer", "an encoder"])
def test_a_torch_encoder_layer_gives_the_same_outputs_here(tmp_path: Path, path: str):
    import torch

    theirs = with_random_weights(
        torch.nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, batch_first=True, norm_first=True)
    )
    ours = nn.TransformerBlock(WIDTH, HEADS, HIDDEN, activation=nn.ReLU())
    save_file({f"{path}{name}": value for name, value in theirs.state_dict().items()}, tmp_path / "theirs.safetensors")
    rules = ["torch-transformer", *([StripPrefix(path)] if path else [])]
    load_model(ours, tmp_path / "theirs.safetensors", mapping=rules)

    x = normal(2, 8, WIDTH)
    assert_near(ours(nn.Tensor(x)).data, theirs(torch.tensor(x)).detach().numpy())
    save_model(ours, tmp_path / "ours.safetensors", mapping=rules)
    assert list(load_file(tmp_path / "ours.safetensors")) == sorted(
        load_file(tmp_path / "theirs.safetensors"), key=[f"{path}{name}" for name in _ORDER].index
    )


_ORDER = [
    *("norm1.weight", "norm1.bias", "self_attn.in_proj_weight", "self_attn.in_proj_bias", "self_attn.out_proj.weight"),
    *("self_attn.out_proj.bias", "norm2.weight", "norm2.bias", "linear1.weight", "linear1.bias", "linear2.weight"),
    "linear2.bias",
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("preset", "wrap"),
    [
        ("data-parallel", lambda torch, model: torch.nn.DataParallel(model)),
        ("compile", lambda torch, model: torch.compile(model)),
    ],
)
def test_a_wrapped_torch_model_loads_and_is_saved_under_the_wrappers_names(tmp_path: Path, preset: str, wrap: Any):
    import torch

    class TorchNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))

    theirs, ours = wrap(torch, TorchNet()), Net()
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    load_model(ours, tmp_path / "theirs.safetensors", mapping=preset)
    np.testing.assert_array_equal(ours.body[1].weight.data, theirs.state_dict()[next(_second(theirs))].numpy())
    save_model(ours, tmp_path / "ours.safetensors", mapping=preset)
    assert list(load_file(tmp_path / "ours.safetensors")) == list(theirs.state_dict())


def _second(model: Any) -> Any:
    return (name for name in model.state_dict() if name.endswith("body.1.weight"))


@pytest.mark.torch
def test_the_prefix_of_a_compiled_part_is_removed_inside_a_name(tmp_path: Path):
    import torch

    compiled: Any = torch.compile
    inner = compiled(torch.nn.Sequential(compiled(torch.nn.Linear(3, 4))))
    save_file(compiled(torch.nn.Sequential(inner)).state_dict(), tmp_path / "a.safetensors")
    assert list(load_file(tmp_path / "a.safetensors", mapping="compile")) == ["0.0.weight", "0.0.bias"]


@pytest.mark.torch
def test_the_model_in_a_lightning_checkpoint_loads_without_the_rest(tmp_path: Path):
    import torch

    theirs, ours = Net(), Net()
    parts = {
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{name}": torch.tensor(value) for name, value in theirs.state_dict().items()},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    }
    torch.save(parts, tmp_path / "a.ckpt")
    load_model(ours, tmp_path / "a.ckpt", mapping="lightning")
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], value)
    convert(tmp_path / "a.ckpt", tmp_path / "a.safetensors", mapping="lightning")
    assert list(load_file(tmp_path / "a.safetensors")) == list(theirs.state_dict())
    save_model(ours, tmp_path / "b.h5", mapping="lightning")
    assert list(load_file(tmp_path / "b.h5")) == [f"state_dict.model.{name}" for name in theirs.state_dict()]


def test_rules_after_a_preset_lead_on_to_other_names(tmp_path: Path):
    model = nn.Sequential(nn.Linear(3, 4))
    save_file({"layers.dense.vars.0": np.ones((3, 4)), "layers.dense.vars.1": np.ones(4)}, tmp_path / "a.h5")
    rules = ["keras", Rewrite(r"dense\.(.*)", r"0.\1")]
    load_model(model, tmp_path / "a.h5", cast=True, mapping=rules)
    save_model(model, tmp_path / "b.h5", mapping=rules)
    assert load_file(tmp_path / "b.h5")["layers.dense.vars.0"].shape == (3, 4)
    with pytest.raises(MismatchError, match="the file"):
        load_model(model, tmp_path / "a.h5", mapping=["keras", Rename("dense.bias", "0.bias"), Ignore("dense.*", "x")])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_described_in_its_module_and_can_be_reversed(name: str):
    from statezoo.checkpoints.mapping import presets

    assert f"\n{name} " in (presets.__doc__ or "")
    assert PRESETS[name].reversed().reversed().rules == PRESETS[name].rules
