"""Golden values: an input, and the output, the loss and every gradient that the published weights give for it.

They show, on another machine, that the same weights still compute the same function. golden.safetensors holds `input`,
`target`, `output`, `loss`, and `gradient.<parameter>` for each parameter with a gradient; a tied one appears once.
"""

import numpy as np

from ...core import Module, ModuleError, Tensor
from ..data import Split
from ..training.recipe import Recipe

EXAMPLES = 8

# A different BLAS adds in a different order: float32 results agree to a few units in the last place of the largest one.
RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5


def golden_values(recipe: Recipe, model: Module, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the golden values for a batch, by name. Puts the model in eval mode and clears its gradients."""
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
    """Return the first held-out examples, inputs and targets."""
    return data.test_x[:EXAMPLES], data.test_y[:EXAMPLES]


def golden_differences(recipe: Recipe, model: Module, golden: dict[str, np.ndarray]) -> list[str]:
    """Return the differences between a model's results and the golden values; an empty list if there are none."""
    missing = [name for name in ("input", "target") if name not in golden]
    if missing:
        return [f"{name} is missing" for name in missing]
    try:
        values = golden_values(recipe, model, golden["input"], golden["target"])
    except ModuleError as error:
        return [f"the model does not accept the input: {error}"]
    if values.keys() != golden.keys():
        return [
            f"{name} is {'computed but not stored' if name in values else 'stored but not computed'}"
            for name in sorted(values.keys() ^ golden.keys())
        ]
    return [text for name, expected in golden.items() if (text := _difference(name, values[name], expected))]


def _difference(name: str, value: np.ndarray, expected: np.ndarray) -> str | None:
    if value.shape != expected.shape or value.dtype != expected.dtype:
        return f"{name} is {value.dtype} {value.shape}, not {expected.dtype} {expected.shape}"
    error = np.max(np.abs(value - expected), initial=0.0)
    tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.max(np.abs(expected), initial=0.0)
    # Not `error > tolerance`: NaN would pass.
    return None if error <= tolerance else f"{name} differs by up to {error:.3g}"
