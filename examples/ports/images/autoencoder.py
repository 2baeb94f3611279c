"""An autoencoder of digits, with a tied decoder beside a free one."""

from sklearn.datasets import load_digits

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
from statezoo.core.utils.data import DataLoader


class Autoencoder(nn.Module):
    def __init__(self, code=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(True), nn.Linear(32, code))
        self.decoder = nn.Sequential(nn.Linear(code, 32), nn.ReLU(True), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Tied(nn.Module):
    def __init__(self, code=8):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(code, 64))
        self.code_bias = nn.Parameter(torch.zeros(code))
        self.pixel_bias = nn.Parameter(torch.zeros(64))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x):
        code = torch.tanh(F.linear(x, self.weight, self.code_bias))
        return torch.sigmoid(F.linear(code, self.weight.t(), self.pixel_bias))


torch.manual_seed(9)
pixels = torch.tensor(load_digits().data, dtype=torch.float32) / 16
loader = DataLoader(pixels[:1024], batch_size=128, shuffle=True)
losses = []
for model in (Autoencoder(), Tied()):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-5)
    criterion = nn.MSELoss()
    for epoch in range(5):
        for img in loader:
            img = img.view(img.size(0), -1)
            output = model(img)
            loss = criterion(output, img)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"{model.__class__.__name__}: epoch [{epoch + 1}/5], loss: {loss.item():.4f}")
