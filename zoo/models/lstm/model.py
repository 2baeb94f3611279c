"""LstmConjugator: the forms of Spanish verbs, by an LSTM that reads the infinitive in both directions."""

from ....core import LSTM, Embedding, Linear, Module, Tensor, no_grad
from ...data.conjugation import FORM_LENGTH, LETTERS, PERSONS, TENSES, VERB_LENGTH, word
from ...interface.applying import Interface
from ...registry import register
from ..shared.conjugating import fields, question


@register("lstm")
class LstmConjugator(Module):
    """An LSTM over the letters of an infinitive that says at each place which letter the form has there.

    A form begins as the infinitive does, so most letters stay in place. The two directions tell the model where it is,
    counted from both ends; the second layer joins them.
    """

    def __init__(self, embed_dim: int = 24, hidden_size: int = 40, num_layers: int = 2):
        super().__init__()
        self.letter_embedding = Embedding(len(LETTERS), embed_dim)
        self.tense_embedding = Embedding(len(TENSES), embed_dim)
        self.person_embedding = Embedding(len(PERSONS), embed_dim)
        self.lstm = LSTM(embed_dim, hidden_size, num_layers, batch_first=True, bidirectional=True)
        self.head = Linear(2 * hidden_size, len(LETTERS))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 16, letters). x: (B, 18) integers: tense, person, and the infinitive, filled to 16."""
        asked = self.tense_embedding(x[:, 0]) + self.person_embedding(x[:, 1])  # (B, E)
        letters = self.letter_embedding(x[:, 2:]) + asked.unsqueeze(1)  # (B, 16, E)
        return self.head(self.lstm(letters)[0])

    @property
    def interface(self) -> Interface:
        """What turns three words into the input, and the output into letters."""
        answer = {"op": "argmax", "axis": "letter"}
        preprocessing = fields((0, 0), FORM_LENGTH - VERB_LENGTH)
        return Interface(("batch", "place"), ("batch", "position", "letter"), preprocessing, (answer,))

    def predict(self, verb: str, tense: str, person: str) -> str:
        """Return the form of a verb: predict("hablar", "presente", "yo") is "hablo".

        Raises InputError if the verb is no infinitive of at most 10 letters, or if the tense or person is unknown.
        """
        x = question(self.interface.preprocessing, verb, tense, person)
        with no_grad():
            return word(self(Tensor(x[None])).data[0].argmax(axis=-1))
