"""The pictures on the card of tense-mlp: its table of probabilities, and how it learnt them."""

from typing import TYPE_CHECKING

import numpy as np

from ....core import Module, Tensor, no_grad
from ....core import functional as F
from ...publishing.pictures import CLASSES, draw_table, new_figure
from ...training.run.trajectories import Trajectory
from .grammar import ASPECT_FACTORS, ASPECTS, PERSONS, TENSES, VERBS, load_grammar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERB, PERSON = "hablar", "yo"
# Epochs between which the verbs move visibly.
STAGES = (0, 10, 20, 40, 300)
# Nothing changes visibly after this epoch.
SETTLED = 120


def draw_probabilities(model: Module) -> "Figure":
    """Draw the probability of each tense for each verb and person in per cent, verbs ordered by lexical aspect."""
    by_aspect = sorted(range(len(VERBS)), key=lambda verb: list(ASPECT_FACTORS).index(ASPECTS[VERBS[verb]]))
    shares = _probabilities(model).reshape(len(VERBS), len(PERSONS), len(TENSES))[by_aspect]
    rows = [f"{VERBS[verb]} ({ASPECTS[VERBS[verb]]})" for verb in by_aspect]
    figure, axes = new_figure(10, 6.4, columns=len(PERSONS))
    for person, axis in enumerate(axes[0]):
        draw_table(axis, shares[:, person], rows if person == 0 else [""] * len(rows), TENSES)
        axis.set_title(PERSONS[person], fontsize=11)
    return figure


def draw_learning(trajectory: Trajectory) -> "Figure":
    """Draw the probability of each tense of one verb and person over the epochs; dashed, its share in the grid."""
    pair = VERBS.index(VERB) * len(PERSONS) + PERSONS.index(PERSON)
    shares = np.stack([_probabilities(model)[pair] for model in trajectory])  # (epochs + 1, tenses)
    figure, axes = new_figure(8, 3.6)
    axis = axes[0, 0]
    for tense, (name, colour) in enumerate(zip(TENSES, CLASSES, strict=False)):
        axis.plot(shares[:, tense], color=colour, label=name)
        axis.axhline(load_grammar().probabilities[pair, tense], color=colour, linestyle="--", linewidth=0.8)
    axis.set_xlim(0, min(SETTLED, len(trajectory) - 1))
    axis.set_title(f"{VERB}, {PERSON}", fontsize=11)
    axis.set_xlabel("epoch")
    axis.set_ylabel("probability")
    axis.grid(alpha=0.3)
    figure.legend(fontsize=9, loc="outside right upper")
    return figure


def draw_verbs(trajectory: Trajectory) -> "Figure":
    """Draw the verbs' columns of the first layer, projected on the plane with the largest variance at the end."""
    columns = np.swapaxes(trajectory.states["fc1.weight"][:, :, : len(VERBS)], 1, 2)  # (epochs + 1, verbs, hidden)
    columns = columns - columns.mean(axis=1, keepdims=True)
    plane = np.linalg.svd(columns[-1], full_matrices=False)[2][:2].T  # (hidden, 2)
    places = columns @ plane
    stages = [min(epoch, len(trajectory) - 1) for epoch in STAGES]
    figure, axes = new_figure(2.4 * len(stages), 3, columns=len(stages))
    reach = 1.1 * np.abs(places[stages]).max()
    for axis, epoch in zip(axes[0], stages, strict=True):
        for aspect, colour in zip(ASPECT_FACTORS, CLASSES, strict=False):
            chosen = [ASPECTS[verb] == aspect for verb in VERBS]
            axis.scatter(*places[epoch, chosen].T, color=colour, s=18, label=aspect)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"epoch {epoch}", fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return figure


def _probabilities(model: Module) -> np.ndarray:
    """Return the model's distribution over the tenses of each pair: (60, 5)."""
    with no_grad():
        return F.softmax(model(Tensor(load_grammar().inputs)), dim=-1).data
