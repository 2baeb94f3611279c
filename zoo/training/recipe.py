"""Recipes: everything that decides the weights of an entry, from the seed to the loss."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...core import Module, Tensor, optim
from ..data import Split
from ..errors import UnknownNameError, ZooError
from ..registry import BUILT_IN, import_built_in, unknown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .run.trajectories import Trajectory

_recipes: dict[str, "Recipe"] = {}


@dataclass(frozen=True)
class Target:
    """The value a metric must reach for the entry to be published."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def met_by(self, metrics: Mapping[str, float]) -> bool:
        """Return whether the metrics reach the target."""
        value = metrics[self.metric]
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = [
            f"{sign} {bound:g}" for sign, bound in ((">=", self.at_least), ("<=", self.at_most)) if bound is not None
        ]
        return f"{self.metric} {' and '.join(bounds)}"


@dataclass(frozen=True)
class Recipe(ABC):
    """The training of one entry. The same recipe gives the same bytes in the same environment (run/determinism.py).

    Subclass it and implement `data`, `loss` and `evaluate`; `optimizer` and `pictures` have defaults.
    """

    name: str  # of the entry: "architecture" or "architecture.tag"
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    data_folder: str | None = None  # the folder of real data, for a recipe that reads files
    target: Target | None = None

    # For the card: one line, Hugging Face's pipeline tag, arguments for an example `predict`, the names of the classes.
    summary: ClassVar[str] = ""
    task: ClassVar[str] = "other"
    example: ClassVar[tuple[Any, ...]] = ()
    labels: ClassVar[tuple[str, ...]] = ()
    reads_folder: ClassVar[bool] = False
    # How much a metric of the same weights may differ on another processor; by default, a thousandth of its value.
    tolerances: ClassVar[Mapping[str, float]] = {}
    # How much a metric may differ after training without the pin; by default, as above. weight_tolerance is the same
    # for any one weight; None for a model that amplifies rounding, where no bound was measured to hold.
    retrained_tolerances: ClassVar[Mapping[str, float]] = {}
    weight_tolerance: ClassVar[float | None] = None
    # Whether a run keeps its weights after every epoch, to publish them. They should be a few hundred KB at most.
    keeps_trajectory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.name.split(".")[0] != self.architecture or self.name.count(".") > 1:
            raise ZooError(f"The entry name {self.name!r} must be {self.architecture!r} or '{self.architecture}.tag'.")
        for key, least in (("seed", 0), ("epochs", 1), ("batch_size", 1)):
            value = getattr(self, key)
            if type(value) is not int or value < least:
                raise ZooError(f"{self.name}: {key} must be an integer of at least {least}, not {value!r}.")
        if not (isinstance(self.lr, int | float) and 0 < self.lr < math.inf):
            raise ZooError(f"{self.name}: lr must be a number above 0, not {self.lr!r}.")
        if self.data_folder is not None and not self.reads_folder:
            raise ZooError(f"{self.name} makes its own data. Leave out data_folder.")

    @abstractmethod
    def data(self) -> Split:
        """Return the arrays to train and to test on; the first axis counts examples."""

    @abstractmethod
    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        """Return the scalar to minimize for a batch of examples."""

    @abstractmethod
    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        """Return the metrics for the card. The model is in eval mode."""

    def optimizer(self, model: Module) -> optim.Optimizer:
        """Return the optimizer: AdamW with PyTorch's defaults, unless a subclass overrides this."""
        return optim.AdamW(model.parameters(), lr=self.lr)

    def details(self) -> str:
        """Return what a reader of the card must know: what the numbers mean, and what not to expect."""
        return ""

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        """Return figures for the card by caption, besides the curves of the run."""
        return {}

    def learning(self, trajectory: "Trajectory") -> dict[str, "Figure"]:
        """Return figures that show how the model learnt, by caption. Called if the recipe keeps its trajectory."""
        return {}

    def tolerance(self, metric: str, value: float) -> float:
        """Return how much a metric of this value may differ on another processor, for the same weights."""
        return self.tolerances.get(metric, 1e-6 + 1e-3 * abs(value))

    def retrained_tolerance(self, metric: str, value: float) -> float:
        """Return how much a metric of this value may differ after training that rounds differently."""
        return self.retrained_tolerances.get(metric, self.tolerance(metric, value))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a caller can change and that a run records."""
        return {key: getattr(self, key) for key in ("seed", "epochs", "batch_size", "lr", "data_folder")}

    def with_settings(self, **settings: Any) -> "Recipe":
        """Return the same recipe with some settings changed; None keeps a setting."""
        return replace(self, **{key: value for key, value in settings.items() if value is not None})


def register_recipe(recipe: Recipe) -> Recipe:
    """Register a recipe under its entry's name, for `open_run`, `publish` and `verify`. Return it."""
    import_built_in(recipe.architecture, "recipe")  # first, so that this recipe replaces a built-in one
    _recipes[recipe.name] = recipe
    return recipe


def get_recipe(name: str) -> Recipe:
    """Return the recipe of an entry. Raises UnknownNameError, with the nearest name, if there is none."""
    import_built_in(name.split(".")[0], "recipe")
    if name not in _recipes:
        raise UnknownNameError(unknown("recipe", name, recipes()))
    return _recipes[name]


def recipes() -> list[str]:
    """Return the names of all known recipes, sorted."""
    for architecture in BUILT_IN:
        import_built_in(architecture, "recipe")
    return sorted(_recipes)


def batches(count: int, size: int, order: np.random.Generator) -> list[np.ndarray]:
    """Return the indices of one epoch's batches: a permutation of range(count), split into pieces of `size`."""
    permutation = order.permutation(count)
    return [permutation[start : start + size] for start in range(0, count, size)]
