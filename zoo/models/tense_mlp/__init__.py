"""TenseMLP: the tense of a Spanish verb, given the verb and the person."""

from .model import TenseMLP as TenseMLP
