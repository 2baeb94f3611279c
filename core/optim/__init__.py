"""Optimizers with the names, defaults and results of torch.optim, learning rate schedules and gradient clipping.

    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in batches:
        optimizer.zero_grad()
        mse_loss(model(x), y).backward()
        optimizer.step()

params is an iterable of parameters, of (name, parameter) pairs from `model.named_parameters()` (errors then use the
names), or of dicts with "params" and the hyperparameters that differ for them.
"""

from ..nn.utils.clip_grad import clip_grad_norm_
from . import lr_scheduler as lr_scheduler
from .adam import Adam, AdamW
from .adaptive import Adadelta, Adagrad, Adamax, NAdam, RAdam, RMSprop
from .lr_scheduler import CosineAnnealingLR, StepLR
from .optimizer import Optimizer, keep_freed_memory
from .sgd import SGD

__all__ = [
    "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "CosineAnnealingLR", "NAdam", "Optimizer", "RAdam",
    "RMSprop", "StepLR", "clip_grad_norm_", "keep_freed_memory", "lr_scheduler",
]  # fmt: skip
