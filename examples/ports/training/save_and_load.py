"""Saving and loading: a state, a checkpoint to go on from, several models in one file, a warm start."""

import os

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.optim as optim

PATH = "model.pt"
torch.manual_seed(24)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class TheModelClass(nn.Module):
    def __init__(self, hidden=12):
        super().__init__()
        self.fc1 = nn.Linear(4, hidden)
        self.bn = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.fc2(torch.relu(self.bn(self.fc1(x))))


x = torch.randn(64, 4)
y = x.prod(dim=1, keepdim=True)
losses = []


def train(model, optimizer, steps):
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return loss


# 1. A state.
model = TheModelClass()
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for param_tensor in model.state_dict():
    print(param_tensor, "\t", tuple(model.state_dict()[param_tensor].size()))
print(sorted(optimizer.state_dict()), optimizer.state_dict()["param_groups"][0]["lr"])
train(model, optimizer, 10)
torch.save(model.state_dict(), PATH)
again = TheModelClass()
again.load_state_dict(torch.load(PATH, weights_only=True))
again.eval()
model.eval()
print("the same outputs", torch.equal(again(x), model(x)))

# 2. A checkpoint to go on from, with the optimizer; the losses go on as if nothing had happened.
loss = train(model, optimizer, 5)
checkpoint = {
    "epoch": 15,
    "model_state_dict": model.state_dict(),
    "optimizer_state_dict": optimizer.state_dict(),
    "loss": loss.item(),
}
torch.save(checkpoint, PATH)
train(model, optimizer, 5)
resumed = TheModelClass().to(device)
resumed_optimizer = optim.SGD(resumed.parameters(), lr=0.001, momentum=0.1)
checkpoint = torch.load(PATH, map_location=device)
resumed.load_state_dict(checkpoint["model_state_dict"])
resumed_optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
epoch, loss = checkpoint["epoch"], checkpoint["loss"]
train(resumed, resumed_optimizer, 5)
print(f"epoch {epoch}, loss {loss:.4f}, goes on the same: {losses[-5:] == losses[-10:-5]}")

# 3. Several models in one file.
model_b = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
torch.save({"a": model.state_dict(), "b": model_b.state_dict(), "names": ["a", "b"]}, PATH)
both = torch.load(PATH)
model_b.load_state_dict(both["b"])
print(both["names"], [len(both[name]) for name in both["names"]])

# 4. A warm start from a state that fits in part.
wider = nn.ModuleDict({"fc1": nn.Linear(4, 12), "head": nn.Linear(12, 3)})
report = wider.load_state_dict(torch.load(PATH)["a"], strict=False)
print("missing", report.missing_keys, "unexpected", report.unexpected_keys)

# 5. A tensor, and a list of tensors.
torch.save(x, "tensor.pt")
print("a tensor", torch.equal(torch.load("tensor.pt"), x))
os.remove(PATH)
os.remove("tensor.pt")
