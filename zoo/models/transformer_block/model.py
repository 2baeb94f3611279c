"""One transformer block that writes the answer to a few tokens: six digits in order, or the sum of two numbers."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from ....core import Embedding, LayerNorm, Linear, Module, Tensor, TransformerBlock, init, no_grad
from ...errors import InputError
from ...interface.applying import Interface, prepare
from ...registry import register

SEPARATOR = 10  # the token between the input and the answer of the sorting transformer


@register("transformer-block")
class OneBlockTransformer(Module):
    """A language model with one TransformerBlock: a SortingTransformer, or with `modulus` an AddingTransformer.

    The output head is the token embedding: one Parameter under two names (Press and Wolf 2017, arXiv:1608.05859).
    """

    def __new__(cls, *args: Any, **config: Any) -> Self:
        """Return a model of the class that takes this configuration."""
        if cls is not OneBlockTransformer:
            return super().__new__(cls)
        return super().__new__(AddingTransformer if "modulus" in config else SortingTransformer)  # pyright: ignore

    def _build(self, tokens: int, places: int, embed_dim: int, num_heads: int) -> None:
        self.token_embedding = Embedding(tokens, embed_dim)
        self.position_embedding = Embedding(places, embed_dim)
        self.block = TransformerBlock(embed_dim, num_heads)
        self.ln = LayerNorm(embed_dim)
        self.head = Linear(embed_dim, tokens, bias=False)
        self.head.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor | np.ndarray) -> Tensor:
        """Return logits (B, T, tokens) for the token after each of tokens (B, T)."""
        positions = np.arange(tokens.shape[1])
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, C)
        return self.head(self.ln(self.block(x, is_causal=True)))


class SortingTransformer(OneBlockTransformer):
    """A language model over the ten digits and a separator.

    It reads `length` digits and a separator, and continues with the sorted digits: tokens (B, T), T at most 2 * length.
    """

    def __init__(self, embed_dim: int = 64, num_heads: int = 4, length: int = 6):
        super().__init__()
        self.length = length
        self._build(SEPARATOR + 1, 2 * length, embed_dim, num_heads)

    @property
    def interface(self) -> Interface:
        """What turns digits into the input: the digits, a separator, and places that the answer fills one by one."""
        filled = {"op": "append", "values": [SEPARATOR] * self.length}
        digits = {"name": "digits", "kind": "text", "options": list("0123456789"), "length": self.length}
        answer = {"op": "generate", "start": self.length, "count": self.length}
        axes = ("batch", "position")
        return Interface(axes, (*axes, "token"), ({**digits, "steps": [filled]},), (answer,))

    def sort(self, digits: np.ndarray) -> np.ndarray:
        """Return the sorted digits (B, length) as the model writes them: greedily, one at a time."""
        return self._answer(np.concatenate([digits, np.full(digits.shape, SEPARATOR)], axis=1))

    def _answer(self, tokens: np.ndarray) -> np.ndarray:
        """Return the answer (B, length) to tokens (B, 2 length), as `interface` describes it."""
        tokens = np.concatenate([tokens, tokens[:, :1]], axis=1)  # a place for the last token of the answer
        with no_grad():
            for position in range(self.length, 2 * self.length):
                # What comes later does not matter, because a position attends only to those before it.
                tokens[:, position + 1] = self(tokens[:, : position + 1]).data[:, -1].argmax(axis=-1)
        return tokens[:, self.length + 1 :]

    def predict(self, digits: str | Iterable[int]) -> list[int]:
        """Return the sorted digits: predict("352914") or predict([3, 5, 2, 9, 1, 4]).

        The answer is the model's: it can be wrong, and can then contain the separator (10).
        Raises InputError if the input is not `length` digits from 0 to 9.
        """
        try:
            values = [int(digit) for digit in digits]
        except (ValueError, TypeError):
            values = []
        if len(values) != self.length or not all(0 <= value <= 9 for value in values):
            raise InputError(f"The input must be {self.length} digits from 0 to 9, such as 352914, not {digits!r}.")
        x = prepare(self.interface.preprocessing, {"digits": list(map(str, values))}, np.int64)
        return self._answer(x[None])[0].tolist()


class AddingTransformer(OneBlockTransformer):
    """A language model over the numbers below `modulus` and an equals sign.

    It reads two numbers and the sign, tokens (B, 3), and continues with the sum modulo `modulus`.
    """

    def __init__(self, modulus: int = 97, embed_dim: int = 64, num_heads: int = 4):
        super().__init__()
        self.modulus = modulus
        self._build(modulus + 1, 3, embed_dim, num_heads)
        for embedding in (self.token_embedding, self.position_embedding):
            init.normal_(embedding.weight, std=0.3)

    @property
    def interface(self) -> Interface:
        """What turns two numbers into the input, and where the sum is."""
        steps = [{"op": "append", "values": [self.modulus]}]
        numbers = {"name": "numbers", "kind": "text", "options": [*map(str, range(self.modulus))], "length": 2}
        axes = ("batch", "position")
        answer = {"op": "generate", "start": 2, "count": 1}
        return Interface(axes, (*axes, "token"), ({**numbers, "steps": steps},), (answer,))

    def add(self, pairs: np.ndarray) -> np.ndarray:
        """Return the sums (B,) of pairs of numbers (B, 2) as the model says. They can be wrong."""
        tokens = np.concatenate([pairs, np.full((len(pairs), 1), self.modulus)], axis=1)
        with no_grad():
            return self(tokens).numpy()[:, -1].argmax(axis=-1)

    def predict(self, a: int | str, b: int | str) -> int:
        """Return the sum of two numbers as the model says, which can be wrong: predict(45, 60) or predict("45", "60").

        Raises InputError if one is not a whole number from 0 to modulus - 1.
        """
        raw = [str(a), str(b)]
        if any(text not in self.interface.preprocessing[0]["options"] for text in raw):
            raise InputError(f"The input must be two numbers from 0 to {self.modulus - 1}, not {a!r} and {b!r}.")
        return int(self.add(np.array([[int(text) for text in raw]]))[0])
