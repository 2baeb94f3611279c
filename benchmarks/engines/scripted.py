"""Models as scripts for PyTorch write them: the same code for statezoo and for PyTorch, which are passed as torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engines.work import EMBED_DIM, HEADS, HIDDEN, LENGTH, VOCABULARY


def models(torch: Any) -> dict[str, Callable[[], Any]]:
    """Return the classes by the name of their work."""
    nn, F = torch.nn, torch.nn.functional

    class CNN(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 16, 5)
            self.fc1, self.fc2 = nn.Linear(256, 64), nn.Linear(64, 10)

        def forward(self, x: Any) -> Any:
            x = F.max_pool2d(F.relu(self.conv1(x)), 2)
            x = F.max_pool2d(F.relu(self.conv2(x)), 2)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    class LSTM(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, EMBED_DIM)
            self.lstm = nn.LSTM(EMBED_DIM, HIDDEN, batch_first=True)
            self.fc = nn.Linear(HIDDEN, VOCABULARY)

        def forward(self, tokens: Any) -> Any:
            out, _ = self.lstm(self.embedding(tokens))
            return self.fc(out)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(EMBED_DIM), nn.LayerNorm(EMBED_DIM)
            self.qkv, self.out = nn.Linear(EMBED_DIM, 3 * EMBED_DIM), nn.Linear(EMBED_DIM, EMBED_DIM)
            self.fc1, self.fc2 = nn.Linear(EMBED_DIM, 4 * EMBED_DIM), nn.Linear(4 * EMBED_DIM, EMBED_DIM)

        def forward(self, x: Any) -> Any:
            batch, length, features = x.shape
            parts = self.qkv(self.ln1(x)).split(features, dim=2)
            q, k, v = (p.view(batch, length, HEADS, features // HEADS).transpose(1, 2) for p in parts)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).contiguous().view(batch, length, features))
            return x + self.fc2(F.gelu(self.fc1(self.ln2(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(VOCABULARY, EMBED_DIM), nn.Embedding(LENGTH, EMBED_DIM)
            self.blocks = nn.ModuleList([Block() for _ in range(2)])
            self.ln = nn.LayerNorm(EMBED_DIM)
            self.head = nn.Linear(EMBED_DIM, VOCABULARY, bias=False)
            self.head.weight = self.wte.weight

        def forward(self, tokens: Any) -> Any:
            x = self.wte(tokens) + self.wpe(torch.arange(tokens.size(1)))
            for block in self.blocks:
                x = block(x)
            return self.head(self.ln(x))

    return {"cnn": CNN, "lstm": LSTM, "gpt": GPT}
