"""Embedding and EmbeddingBag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...autograd.devices import Device
from ...autograd.tensor import Tensor
from ...errors import ShapeError
from .. import functional as F
from .. import init
from ..module.module import Module
from ..module.parameter import Parameter

if TYPE_CHECKING:
    import numpy.typing as npt


class _Table(Module):
    """A table of vectors, one in each row of weight, (num_embeddings, embedding_dim), drawn from N(0, 1)."""

    def _set_up(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, weight: Any, freeze: bool, **given: Any
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ShapeError(
                f"padding_idx {padding_idx} is out of range: {type(self).__name__} has {num_embeddings} rows."
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        for name, value in given.items():
            setattr(self, name, value)
        if weight is None:
            self.weight = Parameter(np.empty((num_embeddings, embedding_dim), np.float32))
            self.reset_parameters()
            return
        self.weight = Parameter(weight, requires_grad=not freeze)
        if self.weight.shape != (num_embeddings, embedding_dim):
            raise ShapeError(f"the weight {self.weight.shape} is not ({num_embeddings}, {embedding_dim}).")

    def reset_parameters(self) -> None:
        """Reinitialize the parameters."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight._data[self.padding_idx] = 0

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, *args: Any, **kwargs: Any) -> Self:
        """Return a table over the memory of embeddings, (num_embeddings, embedding_dim), frozen by default.

        The other arguments are those of the constructor, after embedding_dim.
        """
        if len(embeddings.shape) != 2:
            raise ShapeError(f"from_pretrained needs embeddings (n, features), not {embeddings.shape}.")
        return cls(*embeddings.shape, *args, _weight=embeddings, _freeze=freeze, **kwargs)  # pyright: ignore

    def _described_with(self, **defaults: Any) -> str:
        changed = {name: getattr(self, name) for name, value in defaults.items() if getattr(self, name) != value}
        text = "".join(f", {name}={value!r}" for name, value in changed.items())
        return f"{self.num_embeddings}, {self.embedding_dim}{text}"


class Embedding(_Table):
    """A table of vectors, looked up by integers.

    input: (...) integers.  Returns (..., embedding_dim).  weight: (num_embeddings, embedding_dim), from N(0, 1).
    padding_idx: a row that starts as 0 and gets no gradient; a negative one counts from the end.
    max_norm, norm_type, scale_grad_by_freq: as in functional.embedding. sparse=True is refused.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, max_norm: float | None = None,
        norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False, _weight: Any = None,
        _freeze: bool = False, device: Device = None, dtype: npt.DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        options = {"max_norm": max_norm, "norm_type": norm_type, "scale_grad_by_freq": scale_grad_by_freq}
        self._set_up(num_embeddings, embedding_dim, padding_idx, _weight, _freeze, sparse=sparse, **options)
        self._placed(device, dtype)

    def forward(self, input: Any) -> Tensor:
        options = (self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse)
        return F.embedding(input, self.weight, self.padding_idx, *options)

    def extra_repr(self) -> str:
        last = {"scale_grad_by_freq": False, "sparse": False}
        return self._described_with(padding_idx=None, max_norm=None, norm_type=2, **last)


class EmbeddingBag(_Table):
    """The sum, mean or maximum of the vectors in each bag. See functional.embedding_bag.

    input: (B, n) integers, or (n,) with offsets (B,).  Returns (B, embedding_dim).
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, max_norm: float | None = None, norm_type: float = 2.0,
        scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False, _weight: Any = None,
        include_last_offset: bool = False, padding_idx: int | None = None, device: Device = None,
        dtype: npt.DTypeLike | None = None, _freeze: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        options = {"max_norm": max_norm, "norm_type": norm_type, "scale_grad_by_freq": scale_grad_by_freq}
        options |= {"mode": mode, "sparse": sparse, "include_last_offset": include_last_offset}
        self._set_up(num_embeddings, embedding_dim, padding_idx, _weight, _freeze, **options)
        self._placed(device, dtype)

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Tensor | None = None) -> Tensor:
        options = (self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode, self.sparse)
        last = (per_sample_weights, self.include_last_offset, self.padding_idx)
        return F.embedding_bag(input, self.weight, offsets, *options, *last)

    def extra_repr(self) -> str:
        return self._described_with(max_norm=None, norm_type=2, scale_grad_by_freq=False, mode=None, padding_idx=None)
