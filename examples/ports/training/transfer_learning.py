"""Transfer learning: a network trained on the digits 0 to 4 gets a new head for 5 to 9, first frozen, then whole."""

import copy

from sklearn.datasets import load_digits

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.optim as optim
from statezoo.core.optim import lr_scheduler


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
        self.fc = nn.Linear(24, classes)

    def forward(self, x):
        return self.fc(self.features(x))


def train_model(model, data, optimizer, scheduler, num_epochs):
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), 0.0
    for epoch in range(num_epochs):
        for phase in ("train", "val"):
            model.train() if phase == "train" else model.eval()
            inputs, labels = data[phase]
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                outputs = model(inputs)
                _, preds = torch.max(outputs, 1)
                loss = criterion(outputs, labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
                    scheduler.step()
                    losses.append(loss.item())
            acc = torch.sum(preds == labels.data).double() / len(labels)
            if phase == "val" and acc > best_acc:
                best_acc = acc.item()
                best_model_wts = copy.deepcopy(model.state_dict())
    print(f"best accuracy {best_acc:.3f}")
    model.load_state_dict(best_model_wts)
    return model


torch.manual_seed(23)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
x, y = map(torch.tensor, load_digits(return_X_y=True))
x = (x / 16).float()


def part(low):
    chosen = (y >= low) & (y < low + 5)
    xs, ys = x[chosen].to(device), y[chosen].to(device) - low
    return {"train": (xs[:500], ys[:500]), "val": (xs[500:], ys[500:])}


criterion = nn.CrossEntropyLoss()
losses = []
model = Net(5).to(device)
optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model = train_model(model, part(0), optimizer, lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1), 12)
state = model.state_dict()

# A network with the trained features and a new head; only the head is trained.
new = Net(7)
missing, unexpected = new.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")}, strict=False)
print("missing", missing, "unexpected", unexpected)
for param in new.parameters():
    param.requires_grad = False
num_ftrs = new.fc.in_features
new.fc = nn.Linear(num_ftrs, 5)
print([name for name, p in new.named_parameters() if p.requires_grad])
optimizer = optim.SGD(new.fc.parameters(), lr=0.1, momentum=0.9)
new = train_model(new, part(5), optimizer, lr_scheduler.MultiStepLR(optimizer, milestones=[6, 9], gamma=0.5), 12)

# The whole network, with a smaller rate for what was trained before.
new.requires_grad_(True)
optimizer = optim.Adam([{"params": new.features.parameters(), "lr": 1e-3}, {"params": new.fc.parameters()}], lr=1e-2)
new = train_model(new, part(5), optimizer, lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.95**epoch), 8)
