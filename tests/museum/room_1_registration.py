"""Room 1: parts that the model uses but has not registered."""

from typing import Any

import numpy as np
from exhibit import Arguments, classes, exhibit, moved


def _registers(model: Any, *_: Any) -> str:
    return f"No error. parameters() has {[name for name, _ in model.named_parameters()]}."


@exhibit("Layers in a list", _registers)
def layers_in_a_list(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [nn.Linear(8, 8), nn.Linear(8, 8)]
            self.head = nn.Linear(8, 4)

    return Net(), None, None, None


@exhibit("A dict of layers filled later", _registers)
def dict_filled_later(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = {}
            for task in ("a", "b"):
                self.heads[task] = nn.Linear(8, 4)
            self.body = nn.Linear(8, 8)

    return Net(), None, None, None


@exhibit("A tensor instead of a Parameter", _registers)
def tensor_for_parameter(nn: Any) -> Arguments:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)
            self.scale = nn.tensor([1.0], requires_grad=True)

    return Scaled(), None, None, None


def _closure(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    changed = moved(model, optimizer, batch, loss)
    return f"No error. The slope gets a gradient, but a step changes only {changed}, and state_dict() does not list it."


@exhibit("A trainable tensor in a closure", _closure)
def parameter_in_a_closure(nn: Any) -> Arguments:
    def leaky() -> Any:
        slope = nn.Parameter(nn.tensor([0.1]))
        return lambda x: nn.F.relu(x) - slope * nn.F.relu(-x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)
            self.activation = leaky()

        def forward(self, x: Any) -> Any:
            return self.activation(self.fc(x))

    return Net(), None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("A Parameter as a class attribute", _registers)
def parameter_of_the_class(nn: Any) -> Arguments:
    class Net(nn.Module):
        scale = nn.Parameter(nn.tensor([1.0]))

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.fc(x) * self.scale

    return Net(), None, None, None


def _fresh(model: Any, *_: Any) -> str:
    import torch

    x = torch.ones(1, 8)
    same = torch.equal(model(x), model(x))
    return f"No error. Two calls with the same input agree: {same}. {len(list(model.parameters()))} parameters train."


@exhibit("A layer created in each forward", _fresh)
def layer_made_in_forward(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 16)

        def forward(self, x: Any) -> Any:
            return nn.Linear(16, 4)(nn.F.relu(self.fc(x)))

    return Net(), None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _running(model: Any, _: Any, batch: Any, __: Any) -> str:
    model(batch)
    return f"No error. The mean follows the data, but state_dict() has only {list(model.state_dict())}."


@exhibit("Running statistics in a plain attribute", _running)
def running_mean_in_an_attribute(nn: Any) -> Arguments:
    class Center(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)
            self.mean = nn.tensor(np.zeros(8, np.float32))

        def forward(self, x: Any) -> Any:
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return self.fc(x - self.mean)

    return Center(), None, nn.randn(32, 8), None
