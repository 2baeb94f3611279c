"""A straight line through noisy points, by gradient descent and in closed form."""

import numpy as np

import statezoo.core as torch
import statezoo.core.nn as nn

rng = np.random.default_rng(0)
inputs = rng.uniform(-2, 2, size=(60, 1)).astype(np.float32)
targets = (1.5 * inputs - 0.4 + 0.1 * rng.standard_normal((60, 1))).astype(np.float32)

torch.manual_seed(4)
model = nn.Linear(1, 1)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

losses = []
for epoch in range(60):
    x = torch.from_numpy(inputs)
    y = torch.from_numpy(targets)
    outputs = model(x)
    loss = criterion(outputs, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if (epoch + 1) % 20 == 0:
        print(f"epoch [{epoch + 1}/60], loss: {loss.item():.4f}")

predicted = model(torch.from_numpy(inputs)).detach().numpy()
print("mean absolute error", round(float(np.abs(predicted - targets).mean()), 3))

x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).pow(2).sum()
print("closed form", round(slope.item(), 3), round((y.mean() - slope * x.mean()).item(), 3))
print("by descent", round(model.weight.item(), 3), round(model.bias.item(), 3))
