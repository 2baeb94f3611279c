"""A zoo of small pretrained models, each with the recipe that made it, its published weights and its card.

    from statezoo import zoo

    zoo.list_models()
    model = zoo.load("tense-mlp")
    model.predict("hablar", "yo")

Read in this order: registry and loading (names to models), entry (what a published folder holds), training (how weights
are made), publishing (how they become an entry, and how an entry is checked), models (one folder per architecture).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .entry import Entry
from .errors import (
    DataError,
    EntryError,
    ExportError,
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
    from .interface.applying import Interface
    from .models.gpt import GptConjugator
    from .models.linear_regression import LinearRegression
    from .models.lstm import LstmConjugator
    from .models.mnist_classifier import MnistClassifier
    from .models.simple_mlp import SimpleMLP
    from .models.tense_mlp import TenseMLP
    from .models.tied_autoencoder import TiedAutoencoder
    from .models.transformer_block import AddingTransformer, SortingTransformer
    from .models.vae import VAE
    from .publishing.exporting import export
    from .publishing.publishing import publish
    from .publishing.reproduction import Reproduction, repro
    from .publishing.verification import Check, verify
    from .training.recipe import Recipe, Target, get_recipe, recipes, register_recipe
    from .training.run.trajectories import Trajectory, trajectory
    from .training.train import open_run, train
else:
    # Imported on first use: a program that loads one model starts without the others and without training.
    _LATER = {
        "Check": "publishing.verification",
        "GptConjugator": "models.gpt",
        "Interface": "interface.applying",
        "LinearRegression": "models.linear_regression",
        "LstmConjugator": "models.lstm",
        "MnistClassifier": "models.mnist_classifier",
        "Recipe": "training.recipe",
        "Reproduction": "publishing.reproduction",
        "SimpleMLP": "models.simple_mlp",
        "AddingTransformer": "models.transformer_block",
        "SortingTransformer": "models.transformer_block",
        "Target": "training.recipe",
        "TenseMLP": "models.tense_mlp",
        "TiedAutoencoder": "models.tied_autoencoder",
        "VAE": "models.vae",
        "Trajectory": "training.run.trajectories",
        "export": "publishing.exporting",
        "get_recipe": "training.recipe",
        "open_run": "training.train",
        "publish": "publishing.publishing",
        "recipes": "training.recipe",
        "register_recipe": "training.recipe",
        "repro": "publishing.reproduction",
        "train": "training.train",
        "trajectory": "training.run.trajectories",
        "verify": "publishing.verification",
    }

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_LATER[name]}", __name__), name)


__all__ = [
    "VAE",
    "AddingTransformer",
    "Check",
    "DataError",
    "Entry",
    "EntryError",
    "ExportError",
    "GptConjugator",
    "InputError",
    "Interface",
    "LinearRegression",
    "LstmConjugator",
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
    "export",
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
