"""doctor: finds bugs in a model, its optimizer and its training step, each with the line that fixes it.

    report = doctor(model, optimizer, (x, y), cross_entropy)
    print(report)            # for each finding: the full name, what was seen, the code that fixes it
    assert report.ok         # in a test: the report shows in the failure

The checks are in checks/, one file per family, in the order they run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..nn.module.module import Module
    from ..optim.optimizer import Optimizer
    from .examination.report import Report


def doctor(
    model: Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    batch: Any = None,
    loss: Callable[..., Any] | None = None,
) -> Report:
    """Return a Report of the bugs that would silently train, save or predict the wrong thing.

    model: the whole model; what a part shares with the rest cannot be judged from the part alone.
    optimizer: the optimizer of the model, or several, such as those of a generator and its critic. With an optimizer,
    the model is expected to be in training mode. An optimizer that belongs to another loss is not stepped.
    batch: (input, ..., target), or a single input if it is not a tuple or list; arrays become Tensors. About 64
    examples are enough. loss: a function of (output, target), or of the output if there is no target, that returns a
    scalar Tensor. Without a batch it takes no arguments, as in `lambda: recipe.loss(model, x, y)`.

    More arguments allow more checks: only the tree of modules without a batch, outputs and activations with one,
    gradients with a loss, the step with an optimizer. The model runs a few times, in its current modes.
    Everything is restored bit by bit, even after an error: parameters, buffers, gradients, modes, the attributes,
    lists and dicts that forward() changes, the optimizer, the batch, and the random generators of NumPy, Python and
    this package. So no other thread should draw from the global generators of NumPy and Python meanwhile. A ModuleError
    raised by the step becomes a finding; any other error of the model or loss is raised.
    """
    from .checks import examine  # imported on use: most programs never need it

    return examine(model, optimizer, batch, loss)
