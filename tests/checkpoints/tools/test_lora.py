"""merge(method="lora"): adapters as PEFT saves them, folded into their base."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from statezoo.checkpoints import (
    ArgumentError,
    CorruptError,
    MismatchError,
    StateError,
    load_file,
    merge,
    save_file,
    verify,
)

RANK, ALPHA = 2, 6
rng = np.random.default_rng(0)


def drawn(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


BASE = {
    "layers.0.q.weight": drawn(6, 4),
    "layers.0.q.bias": drawn(6),
    "conv.weight": drawn(3, 2, 5, 5),
    "embed.weight": drawn(10, 4),
    "half.weight": drawn(3, 4, dtype=ml_dtypes.bfloat16),
    "steps": np.array(7),
    "_extra_state": {"n": 1},
}
PAIRS = {
    "layers.0.q": {"lora_A.weight": drawn(RANK, 4), "lora_B.weight": drawn(6, RANK)},
    "conv": {"lora_A.weight": drawn(RANK, 2, 5, 5), "lora_B.weight": drawn(3, RANK, 1, 1)},
    "embed": {"lora_embedding_A": drawn(RANK, 10), "lora_embedding_B": drawn(4, RANK)},
    "half": {"lora_A.weight": drawn(RANK, 4), "lora_B.weight": drawn(3, RANK)},
}


def adapter(folder: Path, pairs: Any = None, prefix: str = "base_model.model.", **settings: Any) -> Path:
    """Save an adapter with its settings, and return its folder."""
    pairs = PAIRS if pairs is None else pairs
    folder.mkdir()
    tensors = {f"{prefix}{layer}.{name}": array for layer, pair in pairs.items() for name, array in pair.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA} | settings
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def base(path: Path) -> Path:
    save_file(BASE, path, {"k": "v"})
    return path


def expected(scale: float) -> dict[str, np.ndarray]:
    """Return the changed weights, by the formulas of PEFT's get_delta_weight, in float64."""
    q, conv, half = (
        [PAIRS[layer][f"lora_{half}.weight"].astype(float) for half in "BA"] for layer in ("layers.0.q", "conv", "half")
    )
    embed = [PAIRS["embed"][f"lora_embedding_{half}"].astype(float) for half in "BA"]
    changes = {
        "layers.0.q.weight": q[0] @ q[1],
        "conv.weight": np.einsum("orxy,rihw->oihw", *conv),
        "embed.weight": (embed[0] @ embed[1]).T,
        "half.weight": half[0] @ half[1],
    }
    return {
        name: (BASE[name].astype(float) + scale * change).astype(BASE[name].dtype) for name, change in changes.items()
    }


def assert_folded(out: Path, scale: float) -> None:
    found = load_file(out)
    assert list(found) == list(BASE)
    for name, value in expected(scale).items():
        assert found[name].dtype == BASE[name].dtype
        np.testing.assert_allclose(found[name].astype(float), value.astype(float), rtol=1e-6)
    np.testing.assert_array_equal(found["layers.0.q.bias"], BASE["layers.0.q.bias"])
    assert (int(found["steps"]), found["_extra_state"]) == (7, {"n": 1})
    assert verify(out).intact


@pytest.mark.parametrize("prefix", ["base_model.model.", ""])
def test_linear_convolution_and_embedding_get_scale_times_b_times_a(prefix: str, base: Path, tmp_path: Path):
    merge([base, adapter(tmp_path / "a", prefix=prefix)], tmp_path / "out.h5", method="lora")
    assert_folded(tmp_path / "out.h5", ALPHA / RANK)


def test_a_weight_takes_the_place_of_the_scale(base: Path, tmp_path: Path):
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    merge([base, folder], tmp_path / "out.h5", method="lora", weights=[-0.5])
    assert_folded(tmp_path / "out.h5", -0.5)


def test_two_adapters_add_up(base: Path, tmp_path: Path):
    paths = [base, adapter(tmp_path / "a"), adapter(tmp_path / "b")]
    merge(paths, tmp_path / "out.h5", method="lora", weights=[1, 2])
    assert_folded(tmp_path / "out.h5", 3)


def test_rank_stabilized_adapters_are_scaled_by_the_root(base: Path, tmp_path: Path):
    merge([base, adapter(tmp_path / "a", use_rslora=True)], tmp_path / "out.h5", method="lora")
    assert_folded(tmp_path / "out.h5", ALPHA / RANK**0.5)


def test_layers_may_have_alphas_of_their_own(base: Path, tmp_path: Path):
    folder = adapter(tmp_path / "a", alpha_pattern={"0.q": 1, "onv": 9})
    merge([base, folder], tmp_path / "out.h5", method="lora")
    found = load_file(tmp_path / "out.h5")
    np.testing.assert_allclose(found["layers.0.q.weight"], expected(1 / RANK)["layers.0.q.weight"], rtol=1e-6)
    np.testing.assert_allclose(found["conv.weight"], expected(ALPHA / RANK)["conv.weight"], rtol=1e-6)


def test_a_layer_with_its_inputs_first_is_transposed(tmp_path: Path):
    weight, a, b = drawn(4, 6), drawn(RANK, 4), drawn(6, RANK)
    save_file({"c.weight": weight}, tmp_path / "base.h5")
    folder = adapter(tmp_path / "a", {"c": {"lora_A.weight": a, "lora_B.weight": b}}, fan_in_fan_out=True)
    merge([tmp_path / "base.h5", folder], tmp_path / "out.h5", method="lora")
    np.testing.assert_allclose(load_file(tmp_path / "out.h5")["c.weight"], weight + 3 * (b @ a).T, rtol=1e-5)


def test_alpha_may_be_in_the_metadata_of_the_adapter(base: Path, tmp_path: Path):
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    file = folder / "adapter_model.safetensors"
    save_file(load_file(file), file, {"lora_alpha": "6"})
    merge([base, file], tmp_path / "out.h5", method="lora")
    assert_folded(tmp_path / "out.h5", ALPHA / RANK)


def test_tied_weights_are_changed_once_and_views_in_their_place(tmp_path: Path):
    qkv, a, b = drawn(9, 4), drawn(RANK, 4), drawn(3, RANK)
    save_file({"qkv.weight": qkv, "k.weight": qkv[3:6], "tied.weight": qkv}, tmp_path / "base.safetensors")
    pair = {"lora_A.weight": a, "lora_B.weight": b}
    merge([tmp_path / "base.safetensors", adapter(tmp_path / "a", {"k": pair})], tmp_path / "out.h5", method="lora")
    found = load_file(tmp_path / "out.h5")
    change = np.zeros((9, 4))
    change[3:6] = 3 * b.astype(float) @ a
    np.testing.assert_allclose(found["qkv.weight"], qkv + change, rtol=1e-5)
    assert found["tied.weight"] is found["qkv.weight"]
    assert np.shares_memory(found["k.weight"], found["qkv.weight"])


def test_a_transposed_weight_that_is_stored_with_its_views_is_changed(tmp_path: Path):
    memory = drawn(4, 6)
    save_file({"w.weight": memory.T, "row": memory[1]}, tmp_path / "base.h5")
    a, b = drawn(RANK, 4), drawn(6, RANK)
    folder = adapter(tmp_path / "a", {"w": {"lora_A.weight": a, "lora_B.weight": b}})
    merge([tmp_path / "base.h5", folder], tmp_path / "out.h5", method="lora")
    found = load_file(tmp_path / "out.h5")
    np.testing.assert_allclose(found["w.weight"], memory.T + 3 * b.astype(float) @ a, rtol=1e-5)
    np.testing.assert_array_equal(found["row"], found["w.weight"][:, 1])


def test_an_adapter_whose_b_is_zero_changes_no_bit(base: Path, tmp_path: Path):
    pairs = {
        layer: {n: a * (not n.endswith("B.weight") and "_B" not in n) for n, a in pair.items()}
        for layer, pair in PAIRS.items()
    }
    out = tmp_path / f"out{base.suffix}"
    merge([base, adapter(tmp_path / "a", pairs)], out, method="lora")
    assert out.read_bytes() == base.read_bytes()


def test_everything_that_does_not_fit_is_listed(base: Path, tmp_path: Path):
    pair = PAIRS["layers.0.q"]
    pairs = {
        "layers.0.k": pair,
        "half": pair,
        "embed": {"lora_A.weight": drawn(RANK, 10), "lora_B.weight": drawn(4, RANK)},
        "layers.0.q": {
            "lora_A.weight": drawn(3, 4),
            "lora_B.weight": drawn(6, RANK),
            "lora_magnitude_vector": drawn(6),
        },
        "conv": {"lora_A.weight": drawn(RANK, 2, 5, 5)},
    }
    folder = adapter(tmp_path / "a", pairs)
    with pytest.raises(MismatchError) as caught:
        merge([base, folder], tmp_path / "out.h5", method="lora")
    assert str(caught.value) == (
        f"{folder / 'adapter_model.safetensors'} does not fit {base}; nothing was changed.\n"
        "  base_model.model.layers.0.q.lora_magnitude_vector  is neither lora_A nor lora_B of a layer\n"
        "  conv  has only one of lora_A and lora_B\n"
        "  layers.0.k.weight  is not a tensor of the base. Did you mean layers.0.q.weight?\n"
        "  half.weight  is [3, 4] in the base, and its change is [6, 4]\n"
        "  embed.weight  is [10, 4] in the base, and its change is [4, 10] "
        "(turned round: its setting fan_in_fan_out may be wrong)\n"
        "  layers.0.q.weight  has lora_A [3, 4] and lora_B [6, 2], which do not fit\n"
        "Give the base that the adapter was made for."
    )
    assert not (tmp_path / "out.h5").exists()


def test_a_file_without_adapters_and_integer_weights_are_refused(base: Path, tmp_path: Path):
    save_file({}, tmp_path / "empty.h5")
    with pytest.raises(MismatchError, match="it has no lora_A and lora_B"):
        merge([base, tmp_path / "empty.h5"], tmp_path / "out.h5", method="lora")
    save_file({"half.weight": np.ones((3, 4), np.int8)}, tmp_path / "base.h5")
    folder = adapter(tmp_path / "a", {"half": PAIRS["half"]})
    with pytest.raises(MismatchError, match=r"half\.weight  is int8 in the base, not floating-point"):
        merge([tmp_path / "base.h5", folder], tmp_path / "out.h5", method="lora")


def test_a_weight_that_repeats_elements_is_refused(tmp_path: Path):
    save_file({"w": (row := drawn(4)), "half.weight": np.broadcast_to(row, (3, 4))}, tmp_path / "base.h5")
    folder = adapter(tmp_path / "a", {"half": PAIRS["half"]})
    with pytest.raises(StateError, match=r"'half\.weight' in .* repeats elements of its memory"):
        merge([tmp_path / "base.h5", folder], tmp_path / "out.h5", method="lora")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, r"sets use_dora to True, for which .* Merge it with peft: model\.merge_and_unload\(\)"),
        ({"peft_type": "LOHA"}, "sets peft_type to 'LOHA'"),
        ({"init_lora_weights": "pissa"}, "sets init_lora_weights to 'pissa'"),
        ({"lora_alpha": "x"}, r"the lora_alpha in .* is 'x', not a number\. Give the scale of each adapter as weights"),
        ({"lora_alpha": None}, r"the scale of 'layers\.0\.q' is unknown: there is no lora_alpha in "),
        ({"alpha_pattern": {"(a+)+": 1}}, r"an alpha_pattern that is not the end of a name: '\(a\+\)\+'"),
        ({"alpha_pattern": [1]}, "an alpha_pattern that is not the end of a name"),
        ({"use_dora": [1]}, "sets use_dora to "),
    ],
)
def test_settings_that_change_the_formula_are_refused(
    settings: dict[str, Any], message: str, base: Path, tmp_path: Path
):
    with pytest.raises(ArgumentError, match=message):
        merge([base, adapter(tmp_path / "a", **settings)], tmp_path / "out.h5", method="lora")


@pytest.mark.parametrize("text", ["", "[]", '{"a": NaN', "[" * 100_000], ids=["empty", "list", "cut off", "deep"])
def test_settings_that_are_not_json_are_an_error(text: str, base: Path, tmp_path: Path):
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(CorruptError, match="is not the JSON of an adapter's settings"):
        merge([base, folder], tmp_path / "out.h5", method="lora")


@pytest.mark.peft
@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"alpha_pattern": {"q": 3}, "rank_pattern": {"conv": 2}}], ids=str
)
def test_the_result_is_that_of_peft(settings: dict[str, Any], tmp_path: Path):
    program = f"""
import sys, torch
from peft import LoraConfig, get_peft_model
from statezoo.checkpoints import save_file
torch.manual_seed(0)
model = torch.nn.ModuleDict({{
    "emb": torch.nn.Embedding(11, 6), "q": torch.nn.Linear(6, 5), "conv": torch.nn.Conv2d(2, 3, 3, padding=1),
}})
save_file({{name: tensor.clone() for name, tensor in model.state_dict().items()}}, "base.safetensors")
config = LoraConfig(r=4, lora_alpha=16, target_modules=["emb", "q", "conv"], **{settings!r})
adapted = get_peft_model(model, config)
for name, parameter in adapted.named_parameters():
    if "lora_" in name:
        torch.nn.init.normal_(parameter)
adapted.save_pretrained("adapter")
save_file(adapted.merge_and_unload().state_dict(), "merged.safetensors")
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)  # peft warns when it is imported
    merge([tmp_path / "base.safetensors", tmp_path / "adapter"], tmp_path / "out.h5", method="lora")
    found, expected = load_file(tmp_path / "out.h5"), load_file(tmp_path / "merged.safetensors")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
