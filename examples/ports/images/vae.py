"""A variational autoencoder of digits, with the reparameterization trick, and samples from its prior."""

from sklearn.datasets import load_digits

import statezoo.core as torch
from statezoo.core import nn, optim
from statezoo.core.nn import functional as F
from statezoo.core.utils.data import DataLoader, TensorDataset

torch.manual_seed(10)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
kwargs = {"num_workers": 1, "pin_memory": True} if torch.cuda.is_available() else {}
pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)
train_loader = DataLoader(TensorDataset(pixels[:1200]), batch_size=100, shuffle=True, **kwargs)
test_loader = DataLoader(TensorDataset(pixels[1200:]), batch_size=300, shuffle=False, **kwargs)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 48)
        self.fc21 = nn.Linear(48, 4)
        self.fc22 = nn.Linear(48, 4)
        self.fc3 = nn.Linear(4, 48)
        self.fc4 = nn.Linear(48, 64)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 64))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    reconstruction = F.binary_cross_entropy(recon_x, x.view(-1, 64), reduction="sum")
    divergence = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return reconstruction + divergence


model = VAE().to(device)
optimizer = optim.Adam(model.parameters(), lr=1e-2)
losses = []
for epoch in range(1, 5):
    model.train()
    train_loss = 0
    for (data,) in train_loader:
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        losses.append(loss.item())
        optimizer.step()
    print(f"epoch {epoch}: average loss {train_loss / len(train_loader.dataset):.3f}")

model.eval()
test_loss = 0
with torch.no_grad():
    for (data,) in test_loader:
        recon_batch, mu, logvar = model(data.to(device))
        test_loss += loss_function(recon_batch, data, mu, logvar).item()
    sample = model.decode(torch.randn(16, 4).to(device)).cpu()
print(f"test loss {test_loss / len(test_loader.dataset):.3f}, samples {tuple(sample.view(16, 1, 8, 8).shape)}")
