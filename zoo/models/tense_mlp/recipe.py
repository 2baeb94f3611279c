"""The recipe of tense-mlp: cross entropy against the usage weights of the grammar grid, in full batches."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....core import Module, Tensor
from ....core import functional as F
from ...data import Split
from ...training.recipe import Recipe, Target, register_recipe
from ...training.run.trajectories import Trajectory
from .grammar import TENSES, load_grammar
from .pictures import draw_learning, draw_probabilities, draw_verbs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TenseRecipe(Recipe):
    """Each (verb, person) is one example. Its target is the weight of each tense, scaled so that weights average 1/5.

    So the loss is the weighted cross entropy over all triples, and its minimum is the entropy of the grid.
    """

    summary = "Which tense a Spanish verb is used in, given the verb and the person."
    task = "text-classification"
    example = ("hablar", "yo")
    labels = TENSES
    weight_tolerance = 1e-5
    keeps_trajectory = True

    def details(self) -> str:
        floor = load_grammar().entropy_floor_nats()
        return (
            "The grid holds 20 verbs x 3 persons x 5 tenses with the correct form of each. **The usage weights are "
            "synthetic**: no corpus was counted. They follow from the verb's lexical aspect (states favour the "
            "imperfect, achievements the preterite) and the person, by a rule in `zoo/models/tense_mlp/grammar.py` and "
            f"docs/data.md. Given verb and person, the entropy of the tense is {floor:.4f} nats: no model can have a "
            "lower cross entropy. Five equally likely tenses would have ln 5 = 1.6094. `excess_nats` is the difference "
            "between this model and that minimum. It is trained and tested on the same 60 pairs, which are all that "
            "exist: it shows a fit, not generalisation."
        )

    def data(self) -> Split:
        grammar = load_grammar()
        weights = (grammar.weights / grammar.weights.sum() * len(grammar.inputs)).astype(np.float32)
        return Split(
            name="spanish-grammar-grid",
            train_x=grammar.inputs,
            train_y=weights,
            test_x=grammar.inputs,
            test_y=weights,
            source="The grammar grid in zoo/models/tense_mlp/grammar.csv of statezoo; its usage weights are synthetic.",
            licence="Apache-2.0",
            sha256=grammar.sha256,
        )

    def loss(self, model: Module, x: np.ndarray, y: np.ndarray) -> Tensor:
        return F.cross_entropy(model(Tensor(x)), Tensor(y))

    def evaluate(self, model: Module, data: Split) -> dict[str, float]:
        loss = self.loss(model, data.test_x, data.test_y).item()
        return {"cross_entropy": loss, "excess_nats": loss - load_grammar().entropy_floor_nats()}

    def pictures(self, model: Module, data: Split) -> dict[str, "Figure"]:
        return {"The probability of each tense in per cent, as predicted by the model": draw_probabilities(model)}

    def learning(self, trajectory: Trajectory) -> dict[str, "Figure"]:
        return {
            "The prediction for one verb and person, epoch by epoch; dashed, the shares in the grid": draw_learning(
                trajectory
            ),
            "The verbs in the first layer: the model finds their lexical aspect, which it is not given": draw_verbs(
                trajectory
            ),
        }


register_recipe(
    TenseRecipe(
        name="tense-mlp",
        architecture="tense-mlp",
        config={"in_features": 23, "hidden_features": 16, "out_features": 5},
        epochs=300,
        batch_size=60,
        lr=0.01,
        target=Target("excess_nats", at_most=0.01),
    )
)
