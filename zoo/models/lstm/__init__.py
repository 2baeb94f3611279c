"""LstmConjugator: the forms of Spanish verbs, by an LSTM that reads the infinitive in both directions."""

from .model import LstmConjugator as LstmConjugator
