"""The work as a user of statezoo writes it."""

from __future__ import annotations

import numpy as np
from engines.scripted import models
from engines.work import EMBED_DIM, HEADS, LENGTH, VOCABULARY, Task, Work

from statezoo import core
from statezoo.core import Embedding, LayerNorm, Linear, Module, Tensor, TransformerBlock, no_grad, optim
from statezoo.core import functional as F
from statezoo.zoo.models.simple_mlp.model import SimpleMLP
from statezoo.zoo.models.tense_mlp.model import TenseMLP


class LanguageModel(Module):
    """The zoo's transformer-block, with another vocabulary and length."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = Embedding(VOCABULARY, EMBED_DIM)
        self.position_embedding = Embedding(LENGTH, EMBED_DIM)
        self.block = TransformerBlock(EMBED_DIM, HEADS)
        self.ln = LayerNorm(EMBED_DIM)
        self.head = Linear(EMBED_DIM, VOCABULARY, bias=False)
        self.head.weight = self.token_embedding.weight

    def forward(self, tokens: np.ndarray) -> Tensor:
        x = self.token_embedding(tokens) + self.position_embedding(np.arange(tokens.shape[1]))
        return self.head(self.ln(self.block(x, is_causal=True)))


MODELS = {"tense": TenseMLP, "mlp": SimpleMLP, "transformer": LanguageModel, "linear": lambda: Linear(2, 1)}
MODELS |= models(core)
# The weight that is tied to the weight of the head.
TIED = {"transformer": "token_embedding.weight", "gpt": "wte.weight"}


def build(work: Work) -> Task:
    model = MODELS[work.name]()
    tied = {"head.weight": work.weights[TIED[work.name]]} if work.name in TIED else {}
    model.load_state_dict(work.weights | tied)
    optim.keep_freed_memory()
    optimizer = getattr(optim, work.optimizer)(model.parameters(), lr=work.lr)
    tokens = work.x.dtype.kind == "i"
    arrays = work.x, work.one, work.y
    x, one, y = arrays if work.name == "transformer" else map(Tensor, arrays)
    classes = y.reshape(-1)

    def loss() -> Tensor:
        out = model(x)
        if work.loss == "mse":
            return F.mse_loss(out, y)
        return F.cross_entropy(out.reshape(-1, out.shape[-1]) if tokens else out, classes)

    def step() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value

    def infer() -> np.ndarray:
        with no_grad():
            return model(one).data

    return Task(step, infer)
