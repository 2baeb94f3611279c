"""A cubic polynomial fitted to a sine, with tensors alone: the gradients are worked out by hand."""

import math

import statezoo.core as torch

dtype = torch.float
device = torch.device("cpu")
torch.manual_seed(0)

x = torch.linspace(-math.pi, math.pi, 500, device=device, dtype=dtype)
y = torch.sin(x)
a, b, c, d = (torch.randn((), device=device, dtype=dtype) for _ in range(4))

losses = []
learning_rate = 2e-6
for step in range(200):
    predicted = a + b * x + c * x**2 + d * x**3
    loss = (predicted - y).pow(2).sum().item()
    losses.append(loss)
    if step % 50 == 49:
        print(step + 1, f"{loss:.4f}")
    slope = 2.0 * (predicted - y)
    a -= learning_rate * slope.sum()
    b -= learning_rate * (slope * x).sum()
    c -= learning_rate * (slope * x**2).sum()
    d -= learning_rate * (slope * x**3).sum()

print(f"y = {a.item():.3f} + {b.item():.3f} x + {c.item():.3f} x^2 + {d.item():.3f} x^3")
