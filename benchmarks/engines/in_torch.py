"""The work in PyTorch, eager, as its users write it."""

from __future__ import annotations

import torch
from engines.scripted import models
from engines.work import EMBED_DIM, HEADS, LENGTH, VOCABULARY, Task, Work
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """statezoo's TransformerBlock, with the attention of torch in one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(EMBED_DIM), nn.LayerNorm(EMBED_DIM)
        self.attention = nn.MultiheadAttention(EMBED_DIM, HEADS)  # its parameters only: forward would not be causal
        fc1, fc2 = nn.Linear(EMBED_DIM, 4 * EMBED_DIM), nn.Linear(4 * EMBED_DIM, EMBED_DIM)
        self.mlp = nn.ModuleDict({"fc1": fc1, "fc2": fc2})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, features = x.shape
        attention = self.attention
        fused = F.linear(self.ln1(x), attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = fused.view(batch, length, 3, HEADS, features // HEADS).permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + attention.out_proj(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.ln2(x))))


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, EMBED_DIM)
        self.position_embedding = nn.Embedding(LENGTH, EMBED_DIM)
        self.block = Block()
        self.ln = nn.LayerNorm(EMBED_DIM)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]
        return F.linear(self.ln(self.block(x)), self.token_embedding.weight)


class TenseMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(23, 16), nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.relu(self.fc1(x)))


class SimpleMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first, second, last = nn.Linear(64, 128), nn.Linear(128, 128), nn.Linear(128, 10)
        self.layers = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


MODELS = {"tense": TenseMLP, "mlp": SimpleMLP, "transformer": LanguageModel, "linear": lambda: nn.Linear(2, 1)}
MODELS |= models(torch)


def build(work: Work) -> Task:
    model = MODELS[work.name]()
    state = {name: torch.tensor(array) for name, array in work.weights.items()}
    model.load_state_dict(state | ({"head.weight": state["wte.weight"]} if work.name == "gpt" else {}))
    # As users write them, without options; "foreach" and "fused" would be other contestants.
    optimizer = getattr(torch.optim, work.optimizer)(model.parameters(), lr=work.lr)
    x, y, one = torch.tensor(work.x), torch.tensor(work.y), torch.tensor(work.one)
    classes = y.reshape(-1)

    def loss() -> torch.Tensor:
        out = model(x)
        return F.mse_loss(out, y) if work.loss == "mse" else F.cross_entropy(out.flatten(0, -2), classes)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        return value

    def infer() -> torch.Tensor:
        with torch.no_grad():
            return model(one)

    return Task(step, infer)
