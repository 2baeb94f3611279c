"""Embeddings of digits in which equal digits are near: one network, used for anchor, positive and negative."""

import numpy as np
from sklearn.datasets import load_digits

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
from statezoo.core.utils.data import DataLoader, Dataset


class Triplets(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = images, labels
        self.rng = np.random.RandomState(0)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        same = np.flatnonzero(self.labels == self.labels[index])
        other = np.flatnonzero(self.labels != self.labels[index])
        chosen = [index, self.rng.choice(same), self.rng.choice(other)]
        return tuple(torch.from_numpy(self.images[i]) for i in chosen)


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 48), nn.PReLU(), nn.Linear(48, 16))

    def forward(self, x):
        return F.normalize(self.layers(x), p=2, dim=1)


torch.manual_seed(14)
pixels, labels = load_digits(return_X_y=True)
pixels = (pixels / 16).astype(np.float32)
loader = DataLoader(Triplets(pixels[:640], labels[:640]), batch_size=64, shuffle=True)
model = Embedder()
criterion = nn.TripletMarginLoss(margin=0.5, p=2)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
losses = []
for epoch in range(3):
    for anchor, positive, negative in loader:
        optimizer.zero_grad()
        loss = criterion(model(anchor), model(positive), model(negative))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {loss.item():.4f}")

model.eval()
with torch.no_grad():
    gallery, queries = model(torch.from_numpy(pixels[:640])), model(torch.from_numpy(pixels[1000:1200]))
    nearest = torch.mm(queries, gallery.t()).argmax(dim=1)
    similarity = F.cosine_similarity(queries[0], gallery[0], dim=0).item()
    right = torch.from_numpy(labels[:640])[nearest] == torch.from_numpy(labels[1000:1200])
print(f"nearest neighbour {right.float().mean().item():.2f}, similarity {similarity:.3f}")
