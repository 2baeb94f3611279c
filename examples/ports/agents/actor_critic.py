"""An actor with a critic: two heads on one layer, trained together after each episode."""

import math
import random
from collections import namedtuple

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F

SavedAction = namedtuple("SavedAction", ["log_prob", "value", "entropy"])


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(3, 32)
        self.action_head = nn.Linear(32, 3)
        self.value_head = nn.Linear(32, 1)
        self.saved_actions, self.rewards = [], []

    def forward(self, x):
        x = F.relu(self.affine1(x))
        return F.log_softmax(self.action_head(x), dim=-1), self.value_head(x)


random.seed(5)
torch.manual_seed(22)
model = Policy()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
losses = []


def select_action(state):
    log_probs, state_value = model(torch.tensor(state).float())
    probs = log_probs.exp()
    action = torch.multinomial(probs, num_samples=1)
    entropy = -(probs * log_probs).sum()
    model.saved_actions.append(SavedAction(log_probs[action.item()], state_value, entropy))
    return action.item()


def finish_episode(gamma=0.9):
    R, returns = 0.0, []
    for r in reversed(model.rewards):
        R = r + gamma * R
        returns.append(R)
    returns = torch.tensor(returns[::-1])
    returns = (returns - returns.mean()) / (returns.std() + 1e-7)
    policy_losses, value_losses, entropies = [], [], []
    for (log_prob, value, entropy), R in zip(model.saved_actions, returns, strict=True):
        advantage = R - value.item()
        policy_losses.append(-log_prob * advantage)
        value_losses.append(F.smooth_l1_loss(value, torch.tensor([R])))
        entropies.append(entropy)
    optimizer.zero_grad()
    loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum() - 0.01 * torch.stack(entropies).mean()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    del model.rewards[:]
    del model.saved_actions[:]


totals = []
for _ in range(30):
    angle, speed = random.uniform(-0.5, 0.5), 0.0
    for _ in range(12):
        push = select_action([math.sin(angle), math.cos(angle), speed]) - 1
        speed += 0.3 * math.sin(angle) + 0.3 * push
        angle += speed
        model.rewards.append(math.cos(angle))
    totals.append(sum(model.rewards))
    finish_episode()
print(f"reward {sum(totals[:10]) / 10:.2f} -> {sum(totals[-10:]) / 10:.2f}, loss {losses[-1]:.4f}")
