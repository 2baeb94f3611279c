"""Embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


class Embedding(Module):
    """A table of vectors, looked up by integers.

    ids: (...) integers.  Returns (..., embedding_dim).  weight: (num_embeddings, embedding_dim), from N(0, 1).
    padding_idx: a row that starts as 0 and gets no gradient; a negative one counts from the end.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        device: Device = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ShapeError(f"padding_idx {padding_idx} is out of range: Embedding has {num_embeddings} rows.")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(np.empty((num_embeddings, embedding_dim), np.float32))
        self.reset_parameters()
        self._placed(device, dtype)

    def reset_parameters(self) -> None:
        """Reinitialize the parameters."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight._data[self.padding_idx] = 0

    def forward(self, ids: Any) -> Tensor:
        return F.embedding(ids, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
