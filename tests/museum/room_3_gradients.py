"""Room 3: gradients that are missing, zero, NaN or useless, and a model that has already diverged."""

from typing import Any

import numpy as np
from exhibit import Arguments, classes, exhibit, moved, steps


def _gradients(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    steps(model, optimizer, batch, loss)
    without = [name for name, p in model.named_parameters() if p.grad is None]
    zero = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.any()]
    nan = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.isnan().any()]
    parts = {"no gradient": without, "a gradient of 0": zero, "a gradient with NaN": nan}
    return "No error. " + " ".join(f"After backward() {names} have {what}." for what, names in parts.items() if names)


@exhibit("A detach() on the way to the loss", _gradients)
def detached(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            return self.head(nn.F.relu(self.body(x).detach()))

    return Net(), None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("A layer that forward() does not call", _gradients)
def layer_forgotten(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.fc3(nn.F.relu(self.fc1(x)))

    return Net(), None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("Dead ReLUs", _gradients)
def dead_relus(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.constant_(model[0].bias, -10.0)  # or one step with a learning rate that is too large
    return model, None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("All parameters start at zero", _gradients)
def all_zero(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model, None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _alike(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    steps(model, optimizer, batch, loss, 10)
    alike = bool((model[0].weight == model[0].weight[:1]).all())
    return f"No error. After 10 steps the {len(model[0].weight)} hidden units are all the same: {alike}."


@exhibit("All units start alike", _alike)
def all_alike(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return model, None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


@exhibit("A square root at zero", _gradients)
def root_of_zero(nn: Any) -> Arguments:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4, bias=False)

        def forward(self, x: Any) -> Any:
            h = self.fc(x)
            return (h * h).sum(1).sqrt()  # the lengths, one of which is 0

    x = nn.tensor(np.concatenate([np.ones((31, 8)), np.zeros((1, 8))]).astype(np.float32))
    return Norm(), None, (x, nn.tensor(np.ones(32, np.float32))), nn.F.mse_loss


def _loss(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    return f"No error. The loss is {steps(model, optimizer, batch, loss)[0]}."


@exhibit("The logarithm of a softmax", _loss)
def log_of_softmax(nn: Any) -> Arguments:
    def loss(logits: Any, target: Any) -> Any:
        picked = nn.F.softmax(logits, dim=1)[np.arange(32), np.arange(32) % 4]
        return -picked.log().mean()

    return nn.Linear(8, 4), None, (1000 * nn.randn(32, 8), classes(nn)), loss


def _learns(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    changed = moved(model, optimizer, batch, loss)
    share = float((model[1](model[0](batch[0])).abs() > 0.98).float().mean())
    return f"No error. All parameters change: {len(changed) == 4}. More than 90% of the units are flat: {share > 0.9}."


@exhibit("Saturated units", _learns)
def saturated(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    return model, None, (255 * nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _predicts(model: Any, _: Any, batch: Any, __: Any) -> str:
    predicted = sorted({int(each) for each in model(batch).argmax(1)})
    return f"No error. For {len(batch)} examples it predicts only these classes: {predicted}."


@exhibit("A model saved after it diverged", _predicts)
def diverged(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    saved = {**model.state_dict(), "2.weight": nn.tensor(np.full((4, 16), np.nan, np.float32))}
    model.load_state_dict(saved)
    return model, None, nn.randn(32, 8), None
