"""GptConjugator: the forms of Spanish verbs, written letter by letter by a small decoder."""

import numpy as np

from ....core import Embedding, LayerNorm, Linear, Module, ModuleList, Tensor, TransformerBlock, init, no_grad
from ...data.conjugation import FORM_LENGTH, LETTERS, PERSONS, TENSES, VERB_LENGTH
from ...interface.applying import Interface
from ...registry import register
from ..shared.conjugating import fields, question, text

# The tokens are the letters, then the tenses, then the persons.
FIRST_TENSE = len(LETTERS)
FIRST_PERSON = FIRST_TENSE + len(TENSES)
TOKENS = FIRST_PERSON + len(PERSONS)
START = 1 + VERB_LENGTH  # the last position of the question, after which the answer begins
LENGTH = START + FORM_LENGTH


@register("gpt")
class GptConjugator(Module):
    """A language model like GPT-2, over letters, tenses and persons, with `layers` blocks.

    It reads a tense, a person and an infinitive, and continues with the form. The output head is the token embedding:
    one Parameter under two names (Press and Wolf 2017, arXiv:1608.05859).
    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    """

    def __init__(self, embed_dim: int = 48, num_heads: int = 4, layers: int = 2, dropout: float = 0.0):
        super().__init__()
        self.token_embedding = Embedding(TOKENS, embed_dim)
        self.position_embedding = Embedding(LENGTH, embed_dim)
        for table in (self.token_embedding, self.position_embedding):
            init.normal_(table.weight, std=0.1)  # the head is the same tensor: larger values would start it too sure
        self.blocks = ModuleList([TransformerBlock(embed_dim, num_heads, dropout=dropout) for _ in range(layers)])
        self.ln = LayerNorm(embed_dim)
        self.head = Linear(embed_dim, TOKENS, bias=False)
        self.head.weight = self.token_embedding.weight

    def forward(self, tokens: Tensor | np.ndarray) -> Tensor:
        """Return logits (B, T, 44) for the token after each of tokens (B, T), with T at most 27."""
        x = self.token_embedding(tokens) + self.position_embedding(np.arange(tokens.shape[1]))  # (B, T, C)
        for block in self.blocks:
            x = block(x, is_causal=True)
        return self.head(self.ln(x))

    @property
    def interface(self) -> Interface:
        """What turns three words into the input, with places that the answer fills one by one."""
        answer = {"op": "generate", "start": START, "count": FORM_LENGTH}
        preprocessing = fields((FIRST_TENSE, FIRST_PERSON), FORM_LENGTH - 1)
        axes = ("batch", "position")
        return Interface(axes, (*axes, "token"), preprocessing, (answer,))

    def predict(self, verb: str, tense: str, person: str) -> str:
        """Return the form of a verb: predict("hablar", "presente", "yo") is "hablo".

        Raises InputError if the verb is no infinitive of at most 10 letters, or if the tense or person is unknown.
        """
        tokens = np.append(question(self.interface.preprocessing, verb, tense, person), 0)[None]
        with no_grad():
            for position in range(START, LENGTH):
                tokens[:, position + 1] = self(tokens[:, : position + 1]).data[:, -1].argmax(axis=-1)
        return text(tokens[0, START + 1 :])
