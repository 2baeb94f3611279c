"""Gradients of several small batches in one step, clipped by their norm; frozen, reset and counted."""

import statezoo.core as torch
import statezoo.core.nn as nn
from statezoo.core.utils.data import DataLoader, TensorDataset

torch.manual_seed(25)
x = torch.rand(256, 6) * 2 - 1
y = (x[:, :3] * x[:, 3:]).sum(dim=1, keepdim=True)
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))
optimizer = torch.optim.NAdam(model.parameters(), lr=1e-2)
criterion = nn.HuberLoss(delta=0.5)
accumulation_steps, max_norm = 4, 0.5

losses, norms = [], []
for _ in range(4):
    optimizer.zero_grad()
    for i, (inputs, targets) in enumerate(loader):
        loss = criterion(model(inputs), targets) / accumulation_steps
        loss.backward()
        losses.append(loss.item() * accumulation_steps)
        if (i + 1) % accumulation_steps == 0:
            total_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
            norms.append(total_norm.item())
            optimizer.step()
            optimizer.zero_grad()
print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}, largest norm {max(norms):.3f}")
print("clipped", sum(norm > max_norm for norm in norms), "of", len(norms))

# The gradient of four batches in parts is that of all rows at once.
model.zero_grad()
for part_x, part_y in zip(x.chunk(4), y.chunk(4), strict=True):
    (criterion(model(part_x), part_y) / 4).backward()
parts = [p.grad.clone() for p in model.parameters()]
whole = torch.autograd.grad(criterion(model(x), y), model.parameters())
print("equal", all(torch.allclose(a, b, atol=1e-6) for a, b in zip(parts, whole, strict=True)))
total = torch.sqrt(sum((g**2).sum() for g in whole))
by_norms = torch.norm(torch.stack([torch.norm(g.detach(), 2.0) for g in whole]), 2.0)
print(f"norm {total.item():.4f} {by_norms.item():.4f}")
