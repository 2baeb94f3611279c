"""A function with its own backward: the third Legendre polynomial, fitted to a sine."""

import math

import statezoo.core as torch


class Legendre3(torch.autograd.Function):
    """P3(x) = (5 x^3 - 3 x) / 2, with the slope (15 x^2 - 3) / 2."""

    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return 0.5 * (5 * input**3 - 3 * input)

    @staticmethod
    def backward(ctx, grad_output):
        (input,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * input**2 - 1)


dtype = torch.float
x = torch.linspace(-math.pi, math.pi, 500, dtype=dtype)
y = torch.sin(x)
a = torch.full((), 0.0, dtype=dtype, requires_grad=True)
b = torch.full((), -1.0, dtype=dtype, requires_grad=True)
c = torch.full((), 0.0, dtype=dtype, requires_grad=True)
d = torch.full((), 0.3, dtype=dtype, requires_grad=True)

losses = []
learning_rate = 5e-6
for step in range(200):
    p3 = Legendre3.apply
    predicted = a + b * p3(c + d * x)
    loss = (predicted - y).pow(2).sum()
    losses.append(loss.item())
    if step % 50 == 49:
        print(step + 1, f"{loss.item():.4f}")
    loss.backward()
    with torch.no_grad():
        for w in (a, b, c, d):
            w -= learning_rate * w.grad
            w.grad.zero_()

print(f"y = {a.item():.3f} + {b.item():.3f} P3({c.item():.3f} + {d.item():.3f} x)")
