"""Room 4: shapes, modes, initial values and losses."""

from typing import Any

import numpy as np
from exhibit import Arguments, classes, exhibit, steps


def _shape(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    steps(model, optimizer, batch, loss)
    x, y = batch
    return f"It trains on every output minus every target, of shape {tuple((model(x) - y).shape)}."


@exhibit("A loss that broadcasts", _shape)
def loss_broadcasts(nn: Any) -> Arguments:
    x, y = nn.randn(32, 8), nn.randn(32)
    return nn.Linear(8, 1), None, (x, y), nn.F.mse_loss


@exhibit("A custom loss that broadcasts", _shape)
def own_loss_broadcasts(nn: Any) -> Arguments:
    def loss(output: Any, target: Any) -> Any:
        return ((output - target) ** 2).mean()

    x, y = nn.randn(32, 8), nn.randn(32)
    return nn.Linear(8, 1), None, (x, y), loss


def _output(model: Any, _: Any, batch: Any, __: Any) -> str:
    return f"No error. The output for {len(batch)} examples has shape {tuple(model(batch).shape)}."


@exhibit("Two branches that broadcast", _output)
def branches_broadcast(nn: Any) -> Arguments:
    class WideAndDeep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.deep = nn.Linear(8, 1), nn.Linear(8, 1)

        def forward(self, x: Any) -> Any:
            return self.wide(x) + self.deep(x).squeeze(-1)

    return WideAndDeep(), None, nn.randn(32, 8), None


def _alone(model: Any, _: Any, batch: Any, __: Any) -> str:
    return f"No error. A single example gets the probabilities {model(batch[:1])[0].tolist()}."


@exhibit("A softmax over the batch", _alone)
def softmax_over_the_batch(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 4), nn.Softmax(dim=0))
    return model, None, nn.randn(32, 8), None


def _mode(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    steps(model, optimizer, batch, loss)
    return f"No error. It trains with training={model.training}, and dropout never drops."


@exhibit("train() forgotten after evaluation", _mode)
def train_forgotten(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4))
    optimizer = nn.optim.SGD(model.parameters(), lr=0.1)
    model.eval()  # for the validation loss, before the next epoch
    return model, optimizer, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _part(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    before = model[1].running_mean.clone()
    steps(model, optimizer, batch, loss)
    same = bool((model[1].running_mean == before).all())
    return f"No error. The running mean stays the same: {same}."


@exhibit("One layer left in evaluation mode", _part)
def layer_left_in_eval(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    model[1].eval()
    return model, None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _random(model: Any, *_: Any) -> str:
    import torch

    model.eval()
    x = torch.ones(1, 8)
    return f"No error. In evaluation mode two predictions agree: {torch.equal(model(x), model(x))}."


@exhibit("Dropout that is always on", _random)
def dropout_always_on(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)

        def forward(self, x: Any) -> Any:
            return self.fc2(nn.F.dropout(nn.F.relu(self.fc1(x)), 0.5))

    return Net(), None, nn.randn(32, 8), None


def _slow(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    low = float(loss(100 * batch[1].new_tensor(np.eye(4)[batch[1]]).float(), batch[1]))
    least = float(loss(batch[1].new_tensor(np.eye(4)[batch[1]]).float(), batch[1]))
    return (
        f"No error. Even for a perfect answer the loss cannot be below {least:.3f}; with logits it reaches {low:.3f}."
    )


@exhibit("A softmax before the cross entropy", _slow)
def softmax_twice(nn: Any) -> Arguments:
    model = nn.Sequential(nn.Linear(8, 4), nn.Softmax(dim=1))
    return model, None, (nn.randn(32, 8), classes(nn)), nn.F.cross_entropy


def _unlearns(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    low = steps(model, optimizer, batch, loss, 500)[-1] < -5
    right = int((model(batch[0]).argmax(1) == batch[1]).sum())
    return f"No error. After 500 steps the loss is below -5: {low}; {right} of {len(batch[1])} examples are right."


@exhibit("A forgotten minus sign", _unlearns)
def minus_forgotten(nn: Any) -> Arguments:
    def loss(logits: Any, target: Any) -> Any:
        log_probabilities = nn.F.log_softmax(logits, dim=1)
        return log_probabilities[np.arange(32), target].mean()

    return nn.Linear(8, 4), None, (nn.randn(32, 8), classes(nn)), loss


def _first_loss(model: Any, optimizer: Any, batch: Any, loss: Any) -> str:
    first = steps(model, optimizer, batch, loss)[0]
    return f"No error. The first loss is more than three times ln(4) = {np.log(4):.2f}: {first > 3 * np.log(4)}."


@exhibit("Weights from the standard normal distribution", _first_loss)
def standard_normal_weights(nn: Any) -> Arguments:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.w2 = nn.Parameter(nn.randn(64, 128)), nn.Parameter(nn.randn(128, 4))

        def forward(self, x: Any) -> Any:
            return nn.F.relu(x @ self.w1) @ self.w2

    return Net(), None, (nn.randn(32, 64), classes(nn)), nn.F.cross_entropy


@exhibit("Pixels from 0 to 255", _first_loss)
def raw_pixels(nn: Any) -> Arguments:
    pixels = nn.tensor((np.arange(32 * 64).reshape(32, 64) * 37 % 256).astype(np.float32))
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    return model, None, (pixels, classes(nn)), nn.F.cross_entropy
