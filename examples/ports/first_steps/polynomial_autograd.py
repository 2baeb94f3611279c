"""The same polynomial with autograd: the gradients come from backward(), the steps are still by hand."""

import math

import statezoo.core as torch

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(1)

x = torch.linspace(-math.pi, math.pi, 500, device=device)
y = torch.sin(x)
weights = [torch.randn((), device=device, requires_grad=True) for _ in range(4)]

losses = []
learning_rate = 2e-6
for step in range(200):
    predicted = sum(w * x**power for power, w in enumerate(weights))
    loss = (predicted - y).pow(2).sum()
    losses.append(loss.item())
    if step % 50 == 49:
        print(step + 1, f"{loss.item():.4f}")
    loss.backward()
    with torch.no_grad():
        for w in weights:
            w -= learning_rate * w.grad
            w.grad = None

print("y =", " + ".join(f"{w.item():.3f} x^{power}" for power, w in enumerate(weights)))
