"""A zoo of small pretrained models, each with the recipe that made it, its published weights and its card.

    from statezoo import zoo

    zoo.list_models()
    model = zoo.load("tense-mlp")
    model.predict("hablar", "yo")

Read in this order: registry and loading (names to models), entry (what a published folder holds), recipe, training,
loop and run_folder (how weights are made), publishing and verification (how they become an entry, and stay one).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .entry import Entry
from .errors import (
    DataError,
    EntryError,
    InputError,
    MissingExtraError,
    RunError,
    StoppedError,
    UnknownNameError,
    ZooError,
)
from .loading import card, create_model, list_models, load
from .registry import architectures, register

if TYPE_CHECKING:
    from .linear_regression import LinearRegression
    from .mnist_classifier import MnistClassifier
    from .publishing import publish
    from .recipe import Recipe, Target, get_recipe, recipes, register_recipe
    from .reproduction import Reproduction, repro
    from .simple_mlp import SimpleMLP
    from .tense_mlp import TenseMLP
    from .tied_autoencoder import TiedAutoencoder
    from .training import open_run, train
    from .trajectories import Trajectory, trajectory
    from .transformer_block import SortingTransformer
    from .verification import Check, verify
else:
    # Imported when they are used: a program that loads one model starts without the others and without training.
    _LATER = {
        "Check": "verification",
        "LinearRegression": "linear_regression",
        "MnistClassifier": "mnist_classifier",
        "Recipe": "recipe",
        "Reproduction": "reproduction",
        "SimpleMLP": "simple_mlp",
        "SortingTransformer": "transformer_block",
        "Target": "recipe",
        "TenseMLP": "tense_mlp",
        "TiedAutoencoder": "tied_autoencoder",
        "Trajectory": "trajectories",
        "get_recipe": "recipe",
        "open_run": "training",
        "publish": "publishing",
        "recipes": "recipe",
        "register_recipe": "recipe",
        "repro": "reproduction",
        "train": "training",
        "trajectory": "trajectories",
        "verify": "verification",
    }

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_LATER[name]}", __name__), name)


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
    "Reproduction",
    "RunError",
    "SimpleMLP",
    "SortingTransformer",
    "StoppedError",
    "Target",
    "TenseMLP",
    "TiedAutoencoder",
    "Trajectory",
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
    "repro",
    "train",
    "trajectory",
    "verify",
]


def __dir__() -> list[str]:
    return __all__
