"""Models with every kind of state that a change in memory may have to restore."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from statezoo import core as nn
from statezoo.core import Parameter


class Remembering(nn.Module):
    """A module with extra state in attributes, a list and an array."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.scale = Parameter(np.full(3, seed, np.float32))
        self.seen, self.words, self.table = seed, {"a": seed}, np.full(2, seed)

    def get_extra_state(self) -> Any:
        return {"seen": self.seen, "words": dict(self.words), "table": self.table.tolist()}

    def set_extra_state(self, state: Any) -> None:
        self.seen = state["seen"]
        self.words.clear()
        self.words.update(state["words"])
        self.table[...] = state["table"]


class Net(nn.Module):
    """A model with a tie, a view, buffers, a generator, several dtypes and layouts, and extra state."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        self.embedding = nn.Embedding(5, 3)
        self.embedding.weight.data[...] = random.standard_normal((5, 3))
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.back = Parameter(self.embedding.weight.T)
        self.narrow = Parameter(random.standard_normal(4).astype(ml_dtypes.bfloat16))
        self.register_buffer("big", np.arange(seed, seed + 6).astype(">i4").reshape(2, 3).T)
        self.register_buffer("empty", np.zeros((0, 2)), persistent=False)
        self.norm = nn.BatchNorm1d(3)
        self.norm.register_buffer("running_mean", np.full(3, seed, np.float32))
        self.memories = nn.ModuleList([Remembering(seed), Remembering(seed + 10)])
        self.random = np.random.default_rng(seed)
