"""An observed training step: its graph, which module returned which tensor, the gradients, and what moved."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor
from ...commit.block import Block
from ...commit.snapshot import Snapshot
from ...errors import ModuleError, OptimizerError
from ...nn.module.hooks import steps_to_hook
from ...nn.module.module import Module
from ...optim.optimizer import NO_GRADIENT, Optimizer
from ...optim.param_groups import named_parameters
from .graph import Node, leaves, recorded, tensors_in
from .undisturbed import undisturbed

Gradients = dict[str, "np.ndarray | None"]  # of the trainable parameters, by full name

# The step size without an optimizer: enough to change the gradients, too small to change the model much.
_NUDGE = 1e-3


@dataclass
class ObservedRun:
    """The results of a forward pass and its loss, if there is one. It holds all tensors, so their ids stay valid."""

    output: Any
    loss: Any
    nodes: list[Node]
    of_model: set[int]  # ids of the results that the model computed, not the loss
    made_by: dict[int, tuple[str, Tensor]]  # id of a tensor -> the name of the innermost module that returned it

    def origin(self, tensor: Tensor) -> str | None:
        """Return the name of the module that returned a tensor, or the tensor it was computed from, and so on."""
        first_operand = {id(node.out): node.operands[0] for node in self.nodes}
        while id(tensor) not in self.made_by:
            if id(tensor) not in first_operand:
                return None
            tensor = first_operand[id(tensor)]
        return self.made_by[id(tensor)][0]


@dataclass
class ObservedStep:
    """The results of a step. Fields that it did not reach stay empty. error: the ModuleError that stopped it."""

    inputs: list[Any]
    target: Any
    run: ObservedRun | None = None
    gradients: Gradients | None = None
    stepped: list[Optimizer] = field(default_factory=list)  # those that hold a parameter with a gradient
    length: float = 0.0  # of their step, relative to that of the parameters
    next_loss: float | None = None  # after the parameters moved, like next_gradients
    next_gradients: Gradients = field(default_factory=dict)
    moved: dict[str, bool] = field(default_factory=dict)  # for each parameter that they hold and that has a gradient
    accumulating: list[tuple[str, str]] = field(default_factory=list)  # (module, attribute) that each run updates
    made_in_forward: set[int] = field(
        default_factory=set
    )  # ids of leaves of the first run that another run did not use
    in_eval: ObservedRun | None = None
    error: ModuleError | None = None


class Observer:
    """An observer that takes a training step of a model and restores everything."""

    def __init__(
        self, model: Module, optimizers: tuple[Optimizer, ...], batch: Any, loss: Callable[..., Any] | None
    ) -> None:
        self.model, self.optimizers, self.batch, self.loss = model, optimizers, batch, loss
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        given = [] if batch is None else list(batch) if isinstance(batch, tuple | list) else [batch]
        self.target = given.pop() if len(given) > 1 else None
        self.inputs = [Tensor(value) if isinstance(value, np.ndarray) else value for value in given]

    def step(self) -> ObservedStep:
        """Take a step and return what it shows."""
        step = ObservedStep(self.inputs, self.target)
        # In a new context, where operations are recorded even if the caller is under no_grad().
        contextvars.Context().run(self._take, step)
        return step

    def _take(self, step: ObservedStep) -> None:
        with np.errstate(all="ignore"):
            try:
                self._train(step)
                step.accumulating = self._accumulating(step)
            except ModuleError as error:
                step.error = error
                step.run = step.run or self._forward()
            else:
                step.in_eval = self._run_in_eval()

    def _train(self, step: ObservedStep) -> None:
        with self._undisturbed() as snapshot:
            step.run = self._run()
            if self.loss is not None:
                step.gradients = self._backward(step.run, snapshot)
                self._move(step)
                again = self._run()
                step.next_gradients = self._backward(again, snapshot)
                step.next_loss = again.loss.item()

    def _forward(self) -> ObservedRun | None:
        """Return a run without the loss, which may have stopped the step, or None if the model itself raises."""
        if self.batch is None:
            return None
        with self._undisturbed():
            try:
                return Observer(self.model, (), (*self.inputs, self.target), None)._run()
            except ModuleError:
                return None

    def _undisturbed(self) -> Block[Snapshot]:
        return undisturbed(self.model, self.optimizers, self.batch, self.loss)

    def _run(self) -> ObservedRun:
        outputs: list[Any] = []
        made_by: dict[int, tuple[str, Tensor]] = {}

        def note(path: str) -> Callable[..., None]:
            def hook(module: Module, args: Any, output: Any) -> None:
                made_by.update((id(t), (path, t)) for t in tensors_in(output) if id(t) not in made_by)
                if module is self.model:
                    outputs.append(output)

            return hook

        begin, end = steps_to_hook((module, note(path), False) for path, module in self.model.named_modules())
        with Block(begin, end, None):
            loss = self._compute()
        last = outputs[-1] if outputs else None
        of_model = {id(node.out) for node in recorded(t for output in outputs for t in tensors_in(output))}
        return ObservedRun(last, loss, recorded(tensors_in(last if loss is None else loss)), of_model, made_by)

    def _compute(self) -> Any:
        if self.batch is None:
            return self.loss() if self.loss is not None else None
        output = self.model(*self.inputs)
        if self.loss is None:
            return None
        return self.loss(output) if self.target is None else self.loss(output, self.target)

    def _backward(self, run: ObservedRun, snapshot: Snapshot) -> Gradients:
        """Return the gradients of the run's loss for the model's parameters."""
        snapshot.keep(*leaves(run.nodes))
        for tensor in (*leaves(run.nodes), *self.parameters.values()):
            tensor._grad = None
        run.loss.backward()
        return {name: None if p._grad is None else p._grad.copy() for name, p in self.parameters.items()}

    def _move(self, step: ObservedStep) -> None:
        assert step.gradients is not None
        before = {name: parameter._data.copy() for name, parameter in self.parameters.items()}
        if self.optimizers:
            reached = [each for each in self.optimizers if any(p._grad is not None for p in parameters_of(each))]
            step.stepped = reached or list(self.optimizers)
            if not reached:
                raise OptimizerError(f"{NO_GRADIENT}. Give the optimizer the parameters that the loss depends on.")
            for optimizer in step.stepped:
                optimizer.step()
            held = {id(parameter) for optimizer in step.stepped for parameter in parameters_of(optimizer)}
            step.moved = {
                name: not np.array_equal(before[name], parameter._data)
                for name, parameter in self.parameters.items()
                if id(parameter) in held and step.gradients[name] is not None
            }
            step.length = self._length(before)
            return
        for name, parameter in self.parameters.items():
            gradient = step.gradients[name]
            if gradient is not None and parameter.data.flags.writeable:
                parameter._data -= (_NUDGE * gradient).astype(parameter.dtype)

    def _length(self, before: dict[str, np.ndarray]) -> float:
        """Return the length of the step relative to the length of the parameters."""
        was = {name: values.astype(np.float64) for name, values in before.items()}
        moved = sum(np.square(self.parameters[name]._data - values).sum() for name, values in was.items())
        length = float(np.sqrt(moved / sum(np.square(values).sum() for values in was.values())))
        return np.inf if np.isnan(length) else length  # an infinite learning rate times a gradient of 0 is NaN

    def _accumulating(self, step: ObservedStep) -> list[tuple[str, str]]:
        """Return the plain attributes that hold an array whose value depends on its value before the run.

        An array that forward() only stores, such as the last attention pattern, is the same after a second run.
        """
        before = self._plain_arrays()
        with self._undisturbed():
            again = self._run()
            first = self._plain_arrays()
        assert step.run is not None
        step.made_in_forward = {id(t) for t in leaves(step.run.nodes)} - {id(t) for t in leaves(again.nodes)}
        changed = {at: values for at, values in first.items() if at in before and not _same(before[at], values)}
        if not changed:
            return []
        with self._undisturbed():
            for (path, name), values in changed.items():
                module = self.model.get_submodule(path)
                like = vars(module)[name]
                vars(module)[name] = Tensor(values) if isinstance(like, Tensor) else values
            self._run()
            second = self._plain_arrays()
        return [at for at, values in changed.items() if at not in second or not _same(second[at], values)]

    def _plain_arrays(self) -> dict[tuple[str, str], np.ndarray]:
        return {
            (path, name): np.array(value)
            for path, module in self.model.named_modules()
            for name, value in module._plain_attributes().items()
            if isinstance(value, Tensor | np.ndarray)
        }

    def _run_in_eval(self) -> ObservedRun | None:
        """Return a run in evaluation mode, or None if the model raises in it."""
        with self._undisturbed():
            self.model.eval()
            try:
                run = self._run()
            except ModuleError:
                return None
            # If the loss calls model.train() itself, the run shows nothing about evaluation mode.
            return None if any(module.training for module in self.model.modules()) else run


def parameters_of(optimizer: Optimizer) -> Iterator[Tensor]:
    """Yield the parameters of the optimizer."""
    return (parameter for _, parameter in named_parameters(optimizer.param_groups))


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()
