"""What an exhibit is: a bug written once for both frameworks, what PyTorch makes of it, and what statezoo says."""

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

# (model, optimizer, several or None, batch or None, loss or None): what doctor() takes.
Arguments = tuple[Any, Any, Any, Any]
Bug = Callable[[Any], Arguments]
Observation = Callable[..., str]

_exhibits: list[Exhibit] = []


@dataclass(frozen=True)
class Exhibit:
    """bug: builds the given from a namespace with torch.nn's names. in_torch: the given's symptoms there."""

    title: str
    bug: Bug
    in_torch: Observation

    @property
    def code(self) -> str:
        """The bug as one would write it: the body of its function."""
        body = inspect.getsource(self.bug).split("\n", 2)
        return textwrap.dedent("\n".join(body[1:])).strip()

    def pytorch_says(self) -> str:
        """Run it in PyTorch; what came of it, and any warning."""
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
        """The error that it is at once, or what the doctor finds."""
        core.manual_seed(0)
        try:
            report = core.doctor(*self.bug(SimpleNamespace(**vars(core), F=core.functional)))
        except core.ModuleError as error:
            return f"{type(error).__name__}: {error}"
        return "\n\n".join(map(str, report.findings))


def exhibit(title: str, in_torch: Observation) -> Callable[[Bug], Bug]:
    """Put a bug on show."""

    def show(bug: Bug) -> Bug:
        _exhibits.append(Exhibit(title, bug, in_torch))
        return bug

    return show


def exhibits() -> list[Exhibit]:
    """All of them, in the order of the rooms."""
    import room_1_registration  # noqa: F401
    import room_2_sharing  # noqa: F401
    import room_3_gradients  # noqa: F401
    import room_4_steps  # noqa: F401

    return list(_exhibits)


def steps(model: Any, optimizer: Any, batch: Any, loss: Any, count: int = 1) -> list[float]:
    """Take training steps in PyTorch; the losses."""
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
    """Take training steps in PyTorch; the names of the parameters that they changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    steps(model, optimizer, batch, loss, count)
    return [name for name, p in model.named_parameters() if not np.array_equal(p.detach(), before[name])]


def classes(nn: Any, count: int = 32, of: int = 4) -> Any:
    """Class indices, (count,) int64."""
    return nn.tensor(np.arange(count) % of)
