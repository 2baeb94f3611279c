"""Learning rates over time: one small problem, and a schedule of each kind."""

import statezoo.core as torch
from statezoo.core import nn, optim
from statezoo.core.optim import lr_scheduler

SCHEDULES = {
    "step": lambda opt: lr_scheduler.StepLR(opt, step_size=10, gamma=0.5),
    "milestones": lambda opt: lr_scheduler.MultiStepLR(opt, [8, 16], gamma=0.3),
    "exponential": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=24, eta_min=1e-4),
    "restarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=6, T_mult=2),
    "lambda": lambda opt: lr_scheduler.LambdaLR(opt, lr_lambda=lambda epoch: 1 / (1 + epoch)),
    "linear": lambda opt: lr_scheduler.LinearLR(opt, start_factor=0.1, total_iters=8),
    "polynomial": lambda opt: lr_scheduler.PolynomialLR(opt, total_iters=24, power=2.0),
    "one cycle": lambda opt: lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=24),
    "cyclic": lambda opt: lr_scheduler.CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=5, mode="triangular2"),
    "warm-up": lambda opt: lr_scheduler.SequentialLR(
        opt, [lr_scheduler.LinearLR(opt, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(opt, 19)], milestones=[5]
    ),
    "chained": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(opt, factor=0.5, total_iters=4), lr_scheduler.ExponentialLR(opt, gamma=0.95)]
    ),
}

torch.manual_seed(26)
x = torch.randn(32, 5)
y = torch.tanh(x @ torch.randn(5, 1))
losses, rates = [], {}
for name, make in SCHEDULES.items():
    model = nn.Linear(5, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = make(optimizer)
    rates[name] = []
    for _ in range(24):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
        rates[name].append(scheduler.get_last_lr()[0])
    print(f"{name:12s} rates {rates[name][0]:.5f} {rates[name][11]:.5f} {rates[name][-1]:.5f} loss {loss.item():.4f}")

model = nn.Linear(5, 1)
optimizer = optim.Adam(model.parameters(), lr=0.1)
scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)
for _ in range(24):
    optimizer.zero_grad()
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.step()
    scheduler.step(loss.item())
    losses.append(loss.item())
print(f"plateau: rate {optimizer.param_groups[0]['lr']:.5f} loss {loss.item():.4f}")
