"""A PyTorch training script that runs on statezoo: only the imports differ. For PyTorch they are

import torch
import torch.nn as nn
import torch.nn.functional as F
"""

import statezoo.core as nn
import statezoo.core as torch
import statezoo.core.nn.functional as F


class Classifier(nn.Module):
    def __init__(self, hidden_features):
        super().__init__()
        self.fc1 = nn.Linear(2, hidden_features)
        self.fc2 = nn.Linear(hidden_features, 2)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x)))  # (N, 2) -> (N, 2)


def points(count):
    """Return random points in the plane, with 1 for each point outside a circle and 0 for the others."""
    x = torch.randn(count, 2)
    return x, ((x**2).sum(dim=1) > 1.4).long()


torch.manual_seed(0)
x, y = points(1000)
x_test, y_test = points(500)
model = Classifier(hidden_features=32)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()

model.train()
for epoch in range(10):
    total = 0.0
    for start in range(0, len(x), 50):
        optimizer.zero_grad()
        loss = criterion(model(x[start : start + 50]), y[start : start + 50])
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch + 1}: loss {total / 20:.3f}")

model.eval()
with torch.no_grad():
    correct = (model(x_test).argmax(dim=1) == y_test).sum().item()
print(f"accuracy {correct / len(x_test):.3f} with {sum(p.numel() for p in model.parameters())} parameters")
