"""A module whose depth changes at every call, and whose last parameter is used for several powers."""

import math
import random

import statezoo.core as torch


class DynamicPolynomial(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(()))
        self.b = torch.nn.Parameter(torch.randn(()))
        self.c = torch.nn.Parameter(torch.randn(()))
        self.d = torch.nn.Parameter(torch.randn(()))
        self.e = torch.nn.Parameter(torch.randn(()))

    def forward(self, x):
        y = self.a + self.b * x + self.c * x**2 + self.d * x**3
        for power in range(4, random.randint(4, 6)):
            y = y + self.e * x**power
        return y

    def string(self):
        return f"y = {self.a.item():.3f} + {self.b.item():.3f} x + ... + {self.e.item():.5f} (x^4 and sometimes x^5)"


random.seed(0)
torch.manual_seed(3)
x = torch.linspace(-math.pi, math.pi, 400)
y = torch.sin(x)
model = DynamicPolynomial()
criterion = torch.nn.MSELoss(reduction="sum")
optimizer = torch.optim.SGD(model.parameters(), lr=1e-8, momentum=0.9)

losses = []
for step in range(200):
    loss = criterion(model(x), y)
    losses.append(loss.item())
    if step % 50 == 49:
        print(step + 1, f"{loss.item():.2f}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(model.string())
