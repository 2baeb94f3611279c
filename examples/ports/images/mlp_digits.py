"""A multilayer perceptron on handwritten digits, with dropout, train(), eval() and a test loop."""

from sklearn.datasets import load_digits

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
import statezoo.core.optim as optim
from statezoo.core.utils.data import DataLoader, Dataset, random_split


class Digits(Dataset):
    def __init__(self):
        self.images, self.labels = load_digits(return_X_y=True)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.tensor(self.images[idx], dtype=torch.float32) / 16.0
        label = torch.tensor(self.labels[idx], dtype=torch.long)
        return image, label


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 10)
        self.dropout = nn.Dropout(0.2)

    def forward(self, x):
        x = self.dropout(F.relu(self.fc1(x)))
        x = F.relu(self.fc2(x))
        return F.log_softmax(self.fc3(x), dim=1)


device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(7)
train_set, test_set = random_split(Digits(), [1297, 500])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True, num_workers=0, drop_last=True)
test_loader = DataLoader(test_set, batch_size=250)
model = Net().to(device)
optimizer = optim.Adam(model.parameters(), lr=3e-3)
losses = []


def train(epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(model(data), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if batch_idx % 10 == 0:
            print(f"epoch {epoch} [{batch_idx * len(data)}/{len(train_loader.dataset)}] loss {loss.item():.4f}")


def test():
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data.to(device))
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
    print(f"test: loss {test_loss / len(test_set):.3f}, accuracy {correct / len(test_set):.2f}")


for epoch in range(1, 4):
    train(epoch)
    test()
