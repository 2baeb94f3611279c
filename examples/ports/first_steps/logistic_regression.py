"""Logistic regression on two clouds of points, with a sigmoid and binary cross entropy."""

import statezoo.core as torch
from statezoo.core import nn, optim

torch.manual_seed(5)
n = 100
x = torch.cat((torch.randn(n, 2) + 1.5, torch.randn(n, 2) - 1.5), 0)
y = torch.cat((torch.zeros(n), torch.ones(n)), 0).unsqueeze(1)


class LogisticRegression(nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.linear = nn.Linear(in_features, 1)

    def forward(self, x):
        return torch.sigmoid(self.linear(x))


model = LogisticRegression(2)
criterion = nn.BCELoss()
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

losses = []
for epoch in range(40):
    order = torch.randperm(x.size(0))
    running_loss = 0.0
    for indices in order.split(50):
        optimizer.zero_grad()
        loss = criterion(model(x[indices]), y[indices])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        running_loss += loss.item() * indices.size(0)
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {running_loss / len(x):.4f}")

with torch.no_grad():
    accuracy = model(x).round().eq(y).float().mean().item()
    accuracy_again = ((model(x) > 0.5) == y.bool()).sum().item() / y.numel()
print(f"accuracy {accuracy:.3f}, {accuracy_again:.3f}")
