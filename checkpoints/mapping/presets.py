r"""Mappings for common files of other libraries, by name. They are tested against the libraries' own outputs.

keras               Keras 3: Dense, Embedding, LayerNormalization and BatchNormalization. A .weights.h5 file names a
                    variable by its layer's path and a number: `layers/dense_1/vars/0`. The class of a layer is known
                    only from the path, which has it in snake case in Sequential and functional models and in lists of
                    layers. A subclassed model uses the names of its attributes: rename these first. A normalization
                    with only a scale or only a shift has one variable less, and nothing says which: it is not renamed.
gpt2                Hugging Face's GPT2Block to TransformerBlock. Conv1D has (in, out) weights, ours are (out, in).
torch-transformer   torch.nn.TransformerEncoderLayer with norm_first=True to TransformerBlock.
data-parallel       the prefix `module.` of DataParallel and DistributedDataParallel.
compile             `_orig_mod.` of torch.compile, in front or inside. A save puts it in front.
lightning           `state_dict.model.` of a Lightning checkpoint, without all that is not in its state_dict. For the
                    LightningModule itself, load with prefix="state_dict." instead.
"""

from __future__ import annotations

from .layouts import Transpose
from .rules import AddPrefix, Fill, Ignore, Preset, Rewrite, StripPrefix

_PATH = r"((?:.*\.)?)"


def _layer(kind: str) -> str:
    """Return the pattern of a path that ends in the name of a Keras layer of a class, as a group."""
    return rf"((?:.*\.)?{kind}(?:_\d+)?)"


def _keras_norm(kind: str, *names: str) -> Rewrite:
    return Rewrite(
        tuple(rf"{_layer(kind)}\.vars\.{number}" for number in range(len(names))),
        tuple(rf"\1.{name}" for name in names),
    )


def _renames(*pairs: tuple[str, str]) -> tuple[Rewrite, ...]:
    """Return rules for parts of a module: everything in the first is renamed to the second."""
    return tuple(Rewrite(rf"{_PATH}{before}\.(weight|bias)", rf"\1{after}.\2") for before, after in pairs)


_KERAS = Preset(
    "keras",
    (
        Ignore(r"optimizer\..*", "the state of the optimizer"),
        Ignore(r"(?:.*\.)?seed_generators?(?:_\d+)?\..*", "the state of a random generator"),
        Transpose(rf"{_layer('dense')}\.vars\.0", (1, 0)),
        Rewrite(rf"{_layer('dense')}\.vars\.0", r"\1.weight"),
        Rewrite(rf"{_layer('dense')}\.vars\.1", r"\1.bias"),
        Rewrite(rf"{_layer('embedding')}\.vars\.0", r"\1.weight"),
        _keras_norm("layer_normalization", "weight", "bias"),
        _keras_norm("batch_normalization", "weight", "bias", "running_mean", "running_var"),
        Fill(rf"{_layer('batch_normalization')}\.running_var", r"\1.num_batches_tracked", 0, "int64"),
        StripPrefix("layers."),
    ),
)

_GPT2 = Preset(
    "gpt2",
    (
        Ignore(r"(?:.*\.)?attn\.(?:masked_)?bias", "the causal mask, which is_causal=True makes"),
        Transpose(r"(?:.*\.)?(?:attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight", (1, 0)),
        Rewrite(rf"{_PATH}attn\.c_attn\.(weight|bias)", r"\1attention.in_proj_\2"),
        *_renames(
            (r"attn\.c_proj", "attention.out_proj"),
            (r"mlp\.c_fc", "mlp.fc1"),
            (r"mlp\.c_proj", "mlp.fc2"),
            ("ln_1", "ln1"),
            ("ln_2", "ln2"),
        ),
    ),
)

_TORCH_TRANSFORMER = Preset(
    "torch-transformer",
    (
        Rewrite(rf"{_PATH}self_attn\.in_proj_(weight|bias)", r"\1attention.in_proj_\2"),
        *_renames(
            (r"self_attn\.out_proj", "attention.out_proj"),
            ("linear1", "mlp.fc1"),
            ("linear2", "mlp.fc2"),
            ("norm1", "ln1"),
            ("norm2", "ln2"),
        ),
    ),
)

_LIGHTNING = Preset(
    "lightning",
    (
        Ignore(r"(?!state_dict\.).*", "not in the state_dict"),
        StripPrefix("state_dict."),
        StripPrefix("model."),
    ),
)

_INSIDE = Rewrite(r"(.*\.)_orig_mod\.(.*)", r"\1\2")

PRESETS = {
    preset.name: preset
    for preset in (
        _KERAS,
        _GPT2,
        _TORCH_TRANSFORMER,
        Preset("data-parallel", (StripPrefix("module."),)),
        Preset("compile", (StripPrefix("_orig_mod."), _INSIDE, _INSIDE), back=(AddPrefix("_orig_mod."),)),
        _LIGHTNING,
    )
}
