"""SortingTransformer: one transformer block that sorts six digits, writing one after the other."""

from collections.abc import Iterable

import numpy as np

from ....core import Embedding, LayerNorm, Linear, Module, Tensor, TransformerBlock, no_grad
from ...errors import InputError
from ...interface.applying import Interface, prepare
from ...registry import register

SEPARATOR = 10  # the token between the input and the answer


@register("transformer-block")
class SortingTransformer(Module):
    """A language model over the ten digits and a separator, with one TransformerBlock.

    It reads `length` digits and a separator, and continues with the sorted digits. The output head is the token
    embedding: one Parameter under two names (Press and Wolf 2017, arXiv:1608.05859).
    """

    def __init__(self, embed_dim: int = 64, num_heads: int = 4, length: int = 6):
        super().__init__()
        self.length = length
        self.token_embedding = Embedding(SEPARATOR + 1, embed_dim)
        self.position_embedding = Embedding(2 * length, embed_dim)
        self.block = TransformerBlock(embed_dim, num_heads)
        self.ln = LayerNorm(embed_dim)
        self.head = Linear(embed_dim, SEPARATOR + 1, bias=False)
        self.head.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor | np.ndarray) -> Tensor:
        """Return logits (B, T, 11) for the token after each of tokens (B, T), with T at most 2 * length."""
        positions = np.arange(tokens.shape[1])
        x = self.token_embedding(tokens) + self.position_embedding(positions)  # (B, T, C)
        return self.head(self.ln(self.block(x, is_causal=True)))

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
