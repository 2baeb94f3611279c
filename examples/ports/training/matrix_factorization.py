"""Ratings of films by people as products of embeddings, with biases, from a table made by code."""

import numpy as np

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
from statezoo.core.utils.data import DataLoader, Dataset, Subset

rng = np.random.default_rng(6)
people, films = rng.standard_normal((30, 3)), rng.standard_normal((20, 3))
table = np.clip(np.round(3 + people @ films.T), 1, 5)


class Ratings(Dataset):
    def __init__(self, table):
        self.users, self.items = (torch.as_tensor(axis) for axis in np.nonzero(table))
        self.ratings = torch.as_tensor(table[table > 0], dtype=torch.float32)

    def __len__(self):
        return self.ratings.shape[0]

    def __getitem__(self, i):
        return self.users[i], self.items[i], self.ratings[i]


class MF(nn.Module):
    def __init__(self, num_users, num_items, emb_size=4):
        super().__init__()
        self.user_emb = nn.Embedding(num_users, emb_size)
        self.user_bias = nn.Embedding(num_users, 1)
        self.item_emb = nn.Embedding(num_items, emb_size)
        self.item_bias = nn.Embedding(num_items, 1)
        self.user_emb.weight.data.uniform_(0, 0.5)
        self.item_emb.weight.data.uniform_(0, 0.5)
        self.user_bias.weight.data.uniform_(-0.01, 0.01)
        self.item_bias.weight.data.uniform_(-0.01, 0.01)
        self.mean = nn.Parameter(torch.FloatTensor([3.0]), requires_grad=False)

    def forward(self, u, v):
        b_u, b_v = self.user_bias(u).squeeze(), self.item_bias(v).squeeze()
        return (self.user_emb(u) * self.item_emb(v)).sum(1) + b_u + b_v + self.mean


torch.manual_seed(27)
ratings = Ratings(table)
order = torch.randperm(len(ratings)).tolist()
loader = DataLoader(Subset(ratings, order[:500]), batch_size=100, shuffle=True)
held_out = next(iter(DataLoader(Subset(ratings, order[500:]), batch_size=100)))
model = MF(30, 20)
optimizer = torch.optim.Adam(model.parameters(), lr=0.03, weight_decay=1e-5)
losses = []
for epoch in range(10):
    model.train()
    for u, v, r in loader:
        loss = F.mse_loss(model(u, v), r)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    if epoch % 3 == 0:
        u, v, r = held_out
        with torch.no_grad():
            print(f"epoch {epoch}: train {losses[-1]:.3f}, test {F.l1_loss(model(u, v), r).item():.3f}")
best = torch.topk(model.user_emb(torch.tensor([0])) @ model.item_emb.weight.t(), k=3, dim=1)
print("for the first person", tuple(best.indices.shape), best.values[0, 0].item() >= best.values[0, -1].item())
