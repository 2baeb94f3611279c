"""What torch.nn adds, step by step: raw tensors, then Module, optim, Dataset, DataLoader, and a CNN of layers."""

import math

from sklearn.datasets import load_digits

import statezoo.core as torch
import statezoo.core.nn.functional as F
from statezoo.core import nn, optim
from statezoo.core.utils.data import DataLoader, TensorDataset

torch.manual_seed(6)
pixels, labels = load_digits(return_X_y=True)
x_train, y_train, x_valid, y_valid = map(
    torch.tensor,
    (pixels[:1000].astype("float32") / 16, labels[:1000], pixels[1000:1500].astype("float32") / 16, labels[1000:1500]),
)
n, c = x_train.shape
bs, lr = 100, 0.5
losses = []


def accuracy(out, yb):
    preds = torch.argmax(out, dim=1)
    return (preds == yb).float().mean()


# 1. Tensors alone.
weights = torch.randn(64, 10) / math.sqrt(64)
weights.requires_grad_()
bias = torch.zeros(10, requires_grad=True)


def log_softmax(x):
    return x - x.exp().sum(-1).log().unsqueeze(-1)


def nll(input, target):
    return -input[range(target.shape[0]), target].mean()


for i in range((n - 1) // bs + 1):
    xb, yb = x_train[i * bs : i * bs + bs], y_train[i * bs : i * bs + bs]
    loss = nll(log_softmax(xb @ weights + bias), yb)
    loss.backward()
    losses.append(loss.item())
    with torch.no_grad():
        weights -= weights.grad * lr
        bias -= bias.grad * lr
        weights.grad.zero_()
        bias.grad.zero_()
print(f"tensors: {losses[-1]:.4f}, accuracy {accuracy(x_valid @ weights + bias, y_valid):.3f}")


# 2. A Module, and a step over its parameters.
class Logistic(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(64, 10) / math.sqrt(64))
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, xb):
        return xb @ self.weights + self.bias


model = Logistic()
loss_func = F.cross_entropy
for i in range((n - 1) // bs + 1):
    xb, yb = x_train[i * bs : i * bs + bs], y_train[i * bs : i * bs + bs]
    loss = loss_func(model(xb), yb)
    loss.backward()
    losses.append(loss.item())
    with torch.no_grad():
        for p in model.parameters():
            p -= p.grad * lr
        model.zero_grad()
print(f"module: {losses[-1]:.4f}")


# 3. Dataset, DataLoader, optim, and layers that are functions.
class Lambda(nn.Module):
    def __init__(self, func):
        super().__init__()
        self.func = func

    def forward(self, x):
        return self.func(x)


def loss_batch(model, loss_func, xb, yb, opt=None):
    loss = loss_func(model(xb), yb)
    if opt is not None:
        loss.backward()
        opt.step()
        opt.zero_grad()
        losses.append(loss.item())
    return loss.item(), len(xb)


def fit(epochs, model, loss_func, opt, train_dl, valid_dl):
    for epoch in range(epochs):
        model.train()
        for xb, yb in train_dl:
            loss_batch(model, loss_func, xb, yb, opt)
        model.eval()
        with torch.no_grad():
            values, nums = zip(*[loss_batch(model, loss_func, xb, yb) for xb, yb in valid_dl], strict=True)
        print(epoch, f"{sum(v * m for v, m in zip(values, nums, strict=True)) / sum(nums):.4f}")


train_dl = DataLoader(TensorDataset(x_train, y_train), batch_size=bs, shuffle=True)
valid_dl = DataLoader(TensorDataset(x_valid, y_valid), batch_size=bs * 2)
model = nn.Sequential(
    Lambda(lambda x: x.view(-1, 1, 8, 8)),
    nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 10, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    Lambda(lambda x: x.view(x.size(0), -1)),
)
fit(3, model, loss_func, optim.SGD(model.parameters(), lr=0.1, momentum=0.9), train_dl, valid_dl)
