"""Parametrized weights: weight norm on the layers, a symmetric matrix, and an average of the weights over time."""

import copy

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.utils.parametrize as parametrize
from statezoo.core.nn.utils.parametrizations import weight_norm


class Symmetric(nn.Module):
    def forward(self, X):
        return X.triu() + X.triu(1).transpose(-1, -2)


class EMA:
    def __init__(self, model, decay=0.9):
        self.model, self.decay = copy.deepcopy(model).eval(), decay
        for p in self.model.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for averaged, p in zip(self.model.parameters(), model.parameters(), strict=True):
            averaged.mul_(self.decay).add_(p, alpha=1 - self.decay)


torch.manual_seed(30)
model = nn.Sequential(weight_norm(nn.Linear(4, 16)), nn.Tanh(), weight_norm(nn.Linear(16, 4)))
print(sorted(name for name, _ in model.named_parameters()))
layer = nn.Linear(4, 4, bias=False)
parametrize.register_parametrization(layer, "weight", Symmetric())
model.append(layer)
A = layer.weight
print("symmetric", torch.allclose(A, A.T), list(model.state_dict())[-1])

ema = EMA(nn.Sequential(nn.Linear(4, 4)))
follower = nn.Sequential(nn.Linear(4, 4))
x = torch.randn(64, 4)
y = torch.roll(x, 1, dims=1)
optimizer = torch.optim.Adam([*model.parameters(), *follower.parameters()], lr=2e-2)
losses = []
for _ in range(60):
    optimizer.zero_grad()
    loss = (model(x) - y).square().mean() + (follower(x) - y).abs().mean()
    loss.backward()
    optimizer.step()
    ema.update(follower)
    losses.append(loss.item())
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
print("still symmetric", torch.allclose(layer.weight, layer.weight.T))
distance = sum((a - b).pow(2).sum() for a, b in zip(ema.model.parameters(), follower.parameters(), strict=True))
print(f"distance of the average {distance.sqrt().item():.4f}")
