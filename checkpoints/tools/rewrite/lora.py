"""Folding LoRA adapters, as PEFT saves them, into the weights of their base.

An adapter has two tensors for each changed layer, here for the weight `X.weight` of the base:

    base_model.model.X.lora_A.weight     (r, in, ...)         base_model.model.X.lora_embedding_A    (r, rows)
    base_model.model.X.lora_B.weight     (out, r, ...)        base_model.model.X.lora_embedding_B    (columns, r)

The prefix may be missing, and the name of the adapter may stand after A or B. The result is weight + scale * B @ A: for
a convolution with B as (out, r) and A as (r, in * height * width), for an embedding transposed. fan_in_fan_out, which
PEFT sets for the Conv1D layers of GPT-2, transposes it too.

Without weights, the scale is lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora; r is the first axis of A. These
settings come from `adapter_config.json` next to the adapter, and lora_alpha also from its metadata. alpha_pattern gives
other alphas to layers with names that end in a pattern; only plain names are read, no regular expressions. A weight
replaces the scale. Settings that change the formula (DoRA, biases, changed base weights as with PiSSA) are refused.

Source: huggingface/peft, tuners/lora/layer.py (get_delta_weight) and utils/save_and_load.py.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from ...errors import ArgumentError, CorruptError, MismatchError, MissingFileError, StateError, nearest
from ...formats.entries import InvalidError, parsed
from ...reading.lazy import Checkpoint, LazyTensor
from ...reading.progress import Progress
from ...state import dtypes
from ...state.deferred import Deferred
from ...state.sharing import Packed, unpack_group
from ...storage.source import FileSource

CONFIG = "adapter_config.json"
_MOST_CONFIG_BYTES = 1 << 20
_CHUNK_ELEMENTS = 1 << 20
_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?:(?P<one>[AB])(?:\.[^.]+)?\.weight|embedding_(?P<two>[AB])(?:\.[^.]+)?)"
)
# Settings with the values under which the formula above holds.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "lora_bias": (False, None),
    "use_qalora": (False, None),
    "layer_replication": (None,),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
}


class _Layer(NamedTuple):
    """The two tensors of an adapter for a weight. transposed: whether the weight is (in, out)."""

    weight: str
    a: LazyTensor
    b: LazyTensor
    scale: float
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it fits, or () if A and B do not fit each other."""
        a, b = self.a.shape, self.b.shape
        if len(a) < 2 or len(b) < 2 or b[1] != a[0] or math.prod(b[2:]) != 1 or (self.transposed and len(a) > 2):
            return ()
        return (a[1], b[0]) if self.transposed else (b[0], *a[1:])

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two matrices, in float64. The rows of their product are those of the change."""
        a, b = (np.asarray(tensor).astype(np.float64) for tensor in (self.a, self.b))
        a, b = a.reshape(len(a), -1), self.scale * b.reshape(b.shape[:2])
        return (a.T, b.T) if self.transposed else (b, a)


class Adapted(Checkpoint):
    """A base with adapters folded in. weights: the scale of each adapter, or None for that of its settings.

    Raises MismatchError listing everything in the adapters that does not fit the base, ArgumentError for an adapter
    without a scale or with settings that change the formula.
    """

    def __init__(
        self, base: Checkpoint, adapters: Sequence[Checkpoint], weights: Sequence[float] | None, progress: Progress
    ) -> None:
        super().__init__(base._reader)
        self._progress = progress
        self._layers: dict[str, list[_Layer]] = {}  # by the name of the weight
        for number, adapter in enumerate(adapters):
            layers, problems = _layers_of(adapter, None if weights is None else weights[number])
            problems += [problem for layer in layers if (problem := self._problem(layer))]
            if problems:
                raise MismatchError(adapter.name, self.name, problems, "Give the base that the adapter was made for.")
            for layer in layers:
                self._layers.setdefault(layer.weight, []).append(layer)

    def _problem(self, layer: _Layer) -> str | None:
        name = layer.weight
        weight = self.get(name)
        if not isinstance(weight, LazyTensor):
            near = nearest(name, self)
            return f"{name}  is not a tensor of the base{f'. Did you mean {near}?' if near else ''}"
        if not layer.shape:
            return f"{name}  has lora_A {list(layer.a.shape)} and lora_B {list(layer.b.shape)}, which do not fit"
        if weight.shape != layer.shape:
            turned = weight.shape == layer.shape[::-1]
            hint = " (turned round: its setting fan_in_fan_out may be wrong)" if turned else ""
            return f"{name}  is {list(weight.shape)} in the base, and its change is {list(layer.shape)}{hint}"
        if not dtypes.is_floating(dtypes.name_of(weight.dtype, name)):
            return f"{name}  is {weight.dtype} in the base, not floating-point"
        return None

    def packed(self) -> Packed:
        """Return the result. Its arrays are computed later."""
        packed = super().packed()
        changed: dict[str, list[str]] = {}
        for name in self._layers:
            changed.setdefault(packed.aliases[name].kept if name in packed.aliases else name, []).append(name)
        packed.stored = {
            name: self._later(packed, name, array, changed.get(name, [])) for name, array in packed.stored.items()
        }
        return packed

    def _later(self, packed: Packed, kept: str, array: np.ndarray | Deferred, names: list[str]) -> Deferred:
        def make() -> np.ndarray:
            values = np.asarray(array)
            if names:
                arrays = unpack_group(packed, kept, values, [kept, *names])
                for name in names:
                    self._fold(arrays[name], name)
                values = arrays[kept]
            self._progress(values.nbytes)
            return values

        return Deferred(array.shape, array.dtype, make)

    def _fold(self, weight: np.ndarray, name: str) -> None:
        """Add the changes to a weight, some rows at a time, in float64."""
        if not weight.flags.writeable:
            raise StateError(f"{name!r} in {self.name} repeats elements of its memory, so it cannot be changed.")
        factors = [layer.factors() for layer in self._layers[name]]
        rows = max(1, _CHUNK_ELEMENTS // max(1, math.prod(weight.shape[1:])))
        for start in range(0, len(weight), rows):
            part = weight[start : start + rows]
            change = sum(left[start : start + rows] @ right for left, right in factors)
            change, before = np.reshape(change, part.shape), part.astype(np.float64)
            part[...] = np.where(change == 0, before, before + change).astype(part.dtype)  # -0.0 stays -0.0


def _layers_of(adapter: Checkpoint, weight: float | None) -> tuple[list[_Layer], list[str]]:
    """Return the layers of an adapter, and a line for each of its tensors that belongs to none."""
    settings, problems = _Settings.of(adapter), []
    found: dict[tuple[str, bool], dict[str, LazyTensor]] = {}
    for name, tensor in adapter.items():
        match = _NAME.fullmatch(name)
        pair = found.setdefault((match["layer"], bool(match["two"])), {}) if match else {}
        half = (match["one"] or match["two"]) if match else ""
        if not half or not isinstance(tensor, LazyTensor):
            problems.append(f"{name}  is neither lora_A nor lora_B of a layer")
        elif half in pair:
            problems.append(f"{name}  is a second lora_{half} of this layer: give one adapter a file")
        pair[half] = tensor
    layers = []
    for (layer, is_embedding), pair in found.items():
        if pair.keys() != {"A", "B"}:
            problems.append(f"{layer}  has only one of lora_A and lora_B")
            continue
        scale = settings.scale_of(layer, pair["A"].shape[0] if pair["A"].shape else 0) if weight is None else weight
        transposed = is_embedding or settings.transposed
        layers.append(_Layer(f"{layer}.weight", pair["A"], pair["B"], scale, transposed))
    return layers, problems or ([] if layers else ["it has no lora_A and lora_B"])


class _Settings(NamedTuple):
    """The settings of an adapter. path: where they are from."""

    path: str
    alpha: float | None
    alphas: Mapping[str, float]
    has_root: bool
    transposed: bool

    @classmethod
    def of(cls, adapter: Checkpoint) -> _Settings:
        """Read the settings next to an adapter and in its metadata. Raises ArgumentError if they change the formula."""
        path = os.path.join(os.path.dirname(adapter.name), CONFIG)
        config = _read_config(path) if os.path.isfile(adapter.name) else {}
        for key, allowed in _PLAIN.items():
            if key in config and config[key] not in allowed:
                raise ArgumentError(
                    f"{path} sets {key} to {config[key]!r:.60}, for which weight + scale * B @ A is not the result. "
                    "Merge it with peft: model.merge_and_unload()."
                )
        alpha = config.get("lora_alpha", adapter.metadata.get("lora_alpha"))
        alphas = config.get("alpha_pattern") or {}
        for key in alphas if isinstance(alphas, dict) else [alphas]:
            if not (isinstance(key, str) and _PLAIN_PATTERN.fullmatch(key)):
                raise ArgumentError(
                    f"{path} has an alpha_pattern that is not the end of a name: {key!r:.60}. {_WEIGHTS}"
                )
        return cls(
            path,
            None if alpha is None else _number(alpha, path),
            {key: _number(value, path) for key, value in alphas.items()},
            config.get("use_rslora") is True,
            config.get("fan_in_fan_out") is True,
        )

    def scale_of(self, layer: str, rank: int) -> float:
        """Return the scale of a layer. Raises ArgumentError if there is none."""
        found = [alpha for end, alpha in self.alphas.items() if layer == end or layer.endswith(f".{end}")]
        alpha = found[0] if found else self.alpha
        if alpha is None:
            raise ArgumentError(f"the scale of {layer!r} is unknown: there is no lora_alpha in {self.path}. {_WEIGHTS}")
        return alpha / (math.sqrt(rank) if self.has_root else rank) if rank else 0.0


_PLAIN_PATTERN = re.compile(r"[\w.\-]+")
_WEIGHTS = "Give the scale of each adapter as weights."


def _read_config(path: str) -> dict[str, Any]:
    """Return the settings in a file, which may be anything. Return {} if it is missing."""
    try:
        with closing(FileSource(path)) as source:
            return parsed(source.read(0, min(source.size_bytes, _MOST_CONFIG_BYTES)).strip())
    except MissingFileError:
        return {}
    except (InvalidError, EOFError) as error:
        raise CorruptError(
            f"{path} is not the JSON of an adapter's settings: {error}. Use another copy of it."
        ) from error


def _number(value: Any, path: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ArgumentError(f"the lora_alpha in {path} is {value!r:.60}, not a number. {_WEIGHTS}")
    return number
