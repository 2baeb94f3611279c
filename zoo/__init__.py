"""A zoo of small pretrained models, each with the recipe that made it, its published weights and its card.

    from statezoo import zoo

    zoo.list_models()
    model = zoo.load("tense-mlp")
    model.predict("hablar", "yo")

Read in this order: registry and loading (names to models), entry (what a published folder holds), recipe and
training (how weights are made), publishing and verification (how they become an entry, and stay one).
"""

from .entry import Entry
from .errors import DataError, EntryError, InputError, MissingExtraError, RunError, UnknownNameError, ZooError
from .linear_regression import LinearRegression
from .loading import card, create_model, list_models, load
from .mnist_classifier import MnistClassifier
from .publishing import publish
from .recipe import Recipe, Target, get_recipe, recipes, register_recipe
from .registry import architectures, register
from .simple_mlp import SimpleMLP
from .tense_mlp import TenseMLP
from .tied_autoencoder import TiedAutoencoder
from .training import open_run, train
from .transformer_block import SortingTransformer
from .verification import Check, verify

__all__ = [
    "Check",
    "DataError",
    "Entry",
    "EntryError",
    "InputError",
    "LinearRegression",
    "MissingExtraError",
    "MnistClassifier",
    "Recipe",
    "RunError",
    "SimpleMLP",
    "SortingTransformer",
    "Target",
    "TenseMLP",
    "TiedAutoencoder",
    "UnknownNameError",
    "ZooError",
    "architectures",
    "card",
    "create_model",
    "get_recipe",
    "list_models",
    "load",
    "open_run",
    "publish",
    "recipes",
    "register",
    "register_recipe",
    "train",
    "verify",
]
