"""A small network taught by a large one: soft targets, a temperature, and a loss on cosine similarity."""

from sklearn.datasets import load_digits

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
import statezoo.core.optim as optim
from statezoo.core.utils.data import DataLoader, TensorDataset


def mlp(*sizes):
    layers = []
    for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers.append(nn.Linear(n_in, n_out))
        if i < len(sizes) - 2:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


torch.manual_seed(28)
pixels, labels = load_digits(return_X_y=True)
x, y = torch.tensor(pixels / 16).float(), torch.tensor(labels)
train_loader = DataLoader(TensorDataset(x[:1000], y[:1000]), batch_size=100, shuffle=True)
teacher, student = mlp(64, 96, 48, 10), mlp(64, 12, 10)
ce_loss = nn.CrossEntropyLoss()
losses = []

optimizer = optim.Adam(teacher.parameters(), lr=5e-3)
for _ in range(3):
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        loss = ce_loss(teacher(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

T, soft_target_loss_weight, ce_loss_weight = 2, 0.75, 0.25
teacher.eval()
for parameter in teacher.parameters():
    parameter.requires_grad_(False)
optimizer = optim.Adamax(student.parameters(), lr=2e-2)
for _ in range(3):
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        with torch.no_grad():
            teacher_logits = teacher(inputs)
        student_logits = student(inputs)
        soft_targets = F.softmax(teacher_logits / T, dim=-1)
        soft_prob = F.log_softmax(student_logits / T, dim=-1)
        soft_targets_loss = torch.sum(soft_targets * (soft_targets.log() - soft_prob)) / soft_prob.size()[0] * (T**2)
        same = F.kl_div(soft_prob, soft_targets, reduction="batchmean") * T * T
        cosine = F.cosine_embedding_loss(student_logits, teacher_logits, target=torch.ones(inputs.size(0)))
        loss = soft_target_loss_weight * (soft_targets_loss + same) / 2 + ce_loss_weight * ce_loss(
            student_logits, targets
        )
        loss = loss + 0.1 * cosine
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

with torch.inference_mode():
    for name, net in {"teacher": teacher, "student": student}.items():
        correct = (net(x[1000:]).max(1)[1] == y[1000:]).sum().item()
        print(f"{name}: {100 * correct / len(x[1000:]):.0f} %, {sum(p.numel() for p in net.parameters())} parameters")
print(f"last loss {losses[-1]:.4f}")
