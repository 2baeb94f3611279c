"""A recipe: everything that decides an entry's weights, from the seed to the loss."""

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
        """Whether the metrics reach it."""
        value = metrics[self.metric]
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bounds = [
            f"{sign} {bound:g}" for sign, bound in ((">=", self.at_least), ("<=", self.at_most)) if bound is not None
        ]
        return f"{self.metric} {' and '.join(bounds)}"


@dataclass(frozen=True)
class Recipe(ABC):
    """How one entry is trained. The same recipe on the same machine gives the same bytes.

    Subclass it and fill in `data`, `loss` and `evaluate`; `optimizer` and `pictures` have defaults.
    """

    name: str  # of the entry: "architecture" or "architecture.tag"
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    data_folder: str | None = None  # where real files are, for a recipe that reads some
    target: Target | None = None

    # What the card says: one line, Hugging Face's pipeline tag, the arguments of a predict, the classes' names.
    summary: ClassVar[str] = ""
    task: ClassVar[str] = "other"
    example: ClassVar[tuple[Any, ...]] = ()
    labels: ClassVar[tuple[str, ...]] = ()
    reads_folder: ClassVar[bool] = False
    # By how much a metric may differ where a sum rounds the other way; without an entry, by a thousandth of its value.
    tolerances: ClassVar[Mapping[str, float]] = {}
    # The same for any one weight, at the end of a training that rounded the other way all along.
    weight_tolerance: ClassVar[float] = 1e-3
    # Whether a run keeps its weights after every epoch, to be published: a few hundred KB at most.
    keeps_trajectory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.name.split(".")[0] != self.architecture or self.name.count(".") > 1:
            raise ZooError(f"the entry name {self.name!r} must be {self.architecture!r} or '{self.architecture}.tag'")
        for key, least in (("seed", 0), ("epochs", 1), ("batch_size", 1)):
            value = getattr(self, key)
            if type(value) is not int or value < least:
                raise ZooError(f"{self.name}: {key} is a whole number of at least {least}, not {value!r}")
        if not (isinstance(self.lr, int | float) and 0 < self.lr < math.inf):
            raise ZooError(f"{self.name}: lr is a number above 0, not {self.lr!r}")
        if self.data_folder is not None and not self.reads_folder:
            raise ZooError(f"{self.name} makes its own data and reads none from a folder; leave out --data")

    @abstractmethod
    def data(self) -> Split:
        """The arrays to train and to test on; the first axis counts examples."""

    @abstractmethod
    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        """The scalar that a training step makes smaller, for a batch of examples."""

    @abstractmethod
    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        """The metrics that the card states, of a model in eval mode."""

    def optimizer(self, model: Module) -> optim.Optimizer:
        """AdamW with PyTorch's defaults, unless the recipe says otherwise."""
        return optim.AdamW(model.parameters(), lr=self.lr)

    def details(self) -> str:
        """What a reader of the card has to know beyond the summary: what the numbers mean, what not to expect."""
        return ""

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        """Figures for the card beside the curves of the run, by caption."""
        return {}

    def learning(self, trajectory: "Trajectory") -> dict[str, "Figure"]:
        """Figures for the card of how the model learnt, by caption; asked for if the recipe keeps its trajectory."""
        return {}

    def tolerance(self, metric: str, value: float) -> float:
        """By how much a metric of that value may differ on another machine: near zero, by what rounding makes."""
        return self.tolerances.get(metric, 1e-6 + 1e-3 * abs(value))

    @property
    def settings(self) -> dict[str, Any]:
        """What a command line can change, and a run records."""
        return {key: getattr(self, key) for key in ("seed", "epochs", "batch_size", "lr", "data_folder")}

    def with_settings(self, **settings: Any) -> "Recipe":
        """The same recipe with some settings changed; None keeps what the recipe says."""
        return replace(self, **{key: value for key, value in settings.items() if value is not None})

    @property
    def command(self) -> str:
        """The command line that runs this recipe."""
        options = f"--seed {self.seed} --epochs {self.epochs} --batch-size {self.batch_size} --lr {self.lr!r}"
        return f"python scripts/train.py {self.name} {options}" + (" --data FOLDER" if self.data_folder else "")


def register_recipe(recipe: Recipe) -> Recipe:
    """Make a recipe known by its entry's name, for `train`, `publish` and `verify`. Returns it."""
    import_built_in(recipe.architecture, "recipe")  # first: this recipe takes the place of one that comes with statezoo
    _recipes[recipe.name] = recipe
    return recipe


def get_recipe(name: str) -> Recipe:
    """The recipe of an entry's name. Raises UnknownNameError, with the nearest name, if there is none."""
    import_built_in(name.split(".")[0], "recipe")
    if name not in _recipes:
        raise UnknownNameError(unknown("recipe", name, recipes()))
    return _recipes[name]


def recipes() -> list[str]:
    """The names of all known recipes, sorted."""
    for architecture in BUILT_IN:
        import_built_in(architecture, "recipe")
    return sorted(_recipes)


def batches(count: int, size: int, order: np.random.Generator) -> list[np.ndarray]:
    """The indices of one epoch's batches: a permutation of range(count), cut into pieces of `size`."""
    permutation = order.permutation(count)
    return [permutation[start : start + size] for start in range(0, count, size)]
