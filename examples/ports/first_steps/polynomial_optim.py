"""The same polynomial as a linear layer of the powers of x, trained by nn and optim."""

import math

import statezoo.core as torch

torch.manual_seed(2)
x = torch.linspace(-math.pi, math.pi, 500)
y = torch.sin(x)
powers = torch.tensor([1, 2, 3])
xx = x.unsqueeze(-1).pow(powers)

model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0, 1))
loss_fn = torch.nn.MSELoss(reduction="sum")
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)

losses = []
for step in range(300):
    y_pred = model(xx)
    loss = loss_fn(y_pred, y)
    losses.append(loss.item())
    if step % 100 == 99:
        print(step + 1, f"{loss.item():.4f}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

linear_layer = model[0]
weight = linear_layer.weight
print(f"y = {linear_layer.bias.item():.3f} + {weight[:, 0].item():.3f} x")
print(f"  + {weight[:, 1].item():.3f} x^2 + {weight[:, 2].item():.3f} x^3")
