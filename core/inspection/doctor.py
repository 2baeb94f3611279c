"""doctor: what is wrong with a model, its optimizer or its training step, with the line that mends it.

    report = doctor(model, optimizer, (x, y), cross_entropy)
    print(report)            # each finding: the full name, what was seen, the line of code that mends it
    assert report.ok         # in a test: the report shows in the failure

The checks stand in checks/, one file a family, in the order in which they are asked.
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
    """Return a Report of the bugs that would train, save or predict the wrong thing without a word.

    optimizer: the one that trains the model, or all that do, as those of a generator and its critic; with it the model
    counts as in training. One of several may belong to another loss: then it is not stepped.
    batch: (input, ..., target), or one input if it is no tuple or list; arrays become Tensors. About 64 examples show
    most. loss: a function of (output, target), of the output alone if there is no target, that returns a scalar Tensor;
    without a batch a function of nothing that runs the model on some, as in `lambda: recipe.loss(model, x, y)`.

    More is checked the more is given: the tree alone without a batch, outputs and activations with one, gradients with
    a loss, the step with an optimizer. The model runs in the modes it is in, a few times; then everything is as before,
    bit by bit, also if something raises: parameters, buffers, gradients, modes, what forward() keeps in attributes,
    lists and dicts, the optimizer, the batch, and the generators of NumPy, of Python and of this package.
    A ModuleError that the step raises becomes a finding; any other error of the model's or the loss's is raised.
    """
    from .checks import examine  # only who asks for it pays for it

    return examine(model, optimizer, batch, loss)
