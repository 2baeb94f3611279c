"""GptConjugator: the forms of Spanish verbs, written letter by letter by a small decoder."""

from .model import GptConjugator as GptConjugator
