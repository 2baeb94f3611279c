"""Exhibits: a bug written once for both frameworks, what PyTorch does with it, and what statezoo says."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from statezoo import core

# The arguments of doctor(): a model, one or several optimizers or None, a batch or None, a loss or None.
Arguments = tuple[Any, Any, Any, Any]
Bug = Callable[[Any], Arguments]
Observation = Callable[..., str]

_exhibits: list[Exhibit] = []


@dataclass(frozen=True)
class Exhibit:
    """A bug as a function that returns the arguments of doctor(), and a function that describes what PyTorch does."""

    title: str
    bug: Bug
    in_torch: Observation

    @property
    def code(self) -> str:
        """The code of the bug: the body of its function."""
        body = inspect.getsource(self.bug).split("\n", 2)
        return textwrap.dedent("\n".join(body[1:])).strip()

    def pytorch_says(self) -> str:
        """Run the bug in PyTorch and return what happened, with the first warning if there is one."""
        import torch

        torch.manual_seed(0)
        nn = SimpleNamespace(
            **{**vars(torch.nn), "F": torch.nn.functional, "optim": torch.optim},
            randn=torch.randn,
            tensor=torch.tensor,
            no_grad=torch.no_grad,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            seen = self.in_torch(*self.bug(nn))
        told = [f" It warns: {str(w.message).split('. ')[0]}." for w in caught]
        return seen + "".join(told[:1])

    def statezoo_says(self) -> str:
        """Run the bug in statezoo and return the immediate error, or the findings of the doctor."""
        core.manual_seed(0)
        try:
            report = core.doctor(*self.bug(SimpleNamespace(**vars(core), F=core.functional)))
        except core.ModuleError as error:
            return f"{type(error).__name__}: {error}"
        return "\n\n".join(map(str, report.findings))


def exhibit(title: str, in_torch: Observation) -> Callable[[Bug], Bug]:
    """Register a bug as an exhibit."""

    def show(bug: Bug) -> Bug:
        _exhibits.append(Exhibit(title, bug, in_torch))
        return bug

    return show


def exhibits() -> list[Exhibit]:
    """Return all exhibits, in the order of the rooms."""
    import room_1_registration  # noqa: F401
    import room_2_sharing  # noqa: F401
    import room_3_gradients  # noqa: F401
    import room_4_steps  # noqa: F401

    return list(_exhibits)


def steps(model: Any, optimizer: Any, batch: Any, loss: Any, count: int = 1) -> list[float]:
    """Take training steps in PyTorch and return the losses."""
    import torch

    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = batch
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def moved(model: Any, optimizer: Any, batch: Any, loss: Any, count: int = 1) -> list[str]:
    """Take training steps in PyTorch and return the names of the parameters that changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    steps(model, optimizer, batch, loss, count)
    return [name for name, p in model.named_parameters() if not np.array_equal(p.detach(), before[name])]


def classes(nn: Any, count: int = 32, of: int = 4) -> Any:
    """Return class indices, (count,) int64."""
    return nn.tensor(np.arange(count) % of)
