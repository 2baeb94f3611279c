"""TenseMLP: which tense a Spanish verb is used in, given the verb and the person."""

from .model import TenseMLP as TenseMLP
