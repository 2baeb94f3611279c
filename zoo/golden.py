"""Golden values: an input with the output, the loss and every gradient that the published weights gave for it.

Whoever loads the entry on another machine can see that the same weights still compute the same function.
golden.safetensors holds `input`, `target`, `output`, `loss`, and `gradient.<parameter>` for each parameter
that has a gradient of its own; a tied parameter stands once.
"""

import numpy as np

from ..core import Module, Tensor
from .data import Split
from .recipe import Recipe

EXAMPLES = 8

# Another BLAS sums in another order: float32 results then agree to a few units in the last place of the largest value.
RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5


def golden_values(recipe: Recipe, model: Module, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The golden values of a model in eval mode for a batch of examples, by name. Leaves no gradients behind."""
    model.eval()
    model.zero_grad()
    loss = recipe.loss(model, x, y)
    loss.backward()
    values = {"input": x, "target": y, "output": model(Tensor(x)).data, "loss": loss.data}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            values[f"gradient.{name}"] = parameter.grad
    model.zero_grad()
    return values


def golden_examples(data: Split) -> tuple[np.ndarray, np.ndarray]:
    """The first held-out examples, inputs and targets."""
    return data.test_x[:EXAMPLES], data.test_y[:EXAMPLES]


def golden_differences(recipe: Recipe, model: Module, golden: dict[str, np.ndarray]) -> list[str]:
    """What a model computes otherwise than the golden values say; an empty list if nothing."""
    values = golden_values(recipe, model, golden["input"], golden["target"])
    if values.keys() != golden.keys():
        return [f"{name} is in one of the two only" for name in sorted(values.keys() ^ golden.keys())]
    differences = []
    for name, expected in golden.items():
        error = np.max(np.abs(values[name] - expected), initial=0.0)
        if error > ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.max(np.abs(expected), initial=0.0):
            differences.append(f"{name} differs by up to {error:.3g}")
    return differences
