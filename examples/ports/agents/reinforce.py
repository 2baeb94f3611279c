"""REINFORCE on a walk of ten steps: sample actions, and make those of good episodes more likely."""

import random

import numpy as np

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
import statezoo.core.optim as optim

eps = np.finfo(np.float32).eps.item()


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine1 = nn.Linear(2, 16)
        self.dropout = nn.Dropout(p=0.2)
        self.affine2 = nn.Linear(16, 2)
        self.saved_log_probs = []
        self.rewards = []

    def forward(self, x):
        x = F.relu(self.dropout(self.affine1(x)))
        return F.softmax(self.affine2(x), dim=1)


random.seed(4)
torch.manual_seed(21)
policy = Policy()
optimizer = optim.Adam(policy.parameters(), lr=1e-2)


def select_action(state):
    state = torch.from_numpy(state).float().unsqueeze(0)
    probs = policy(state)
    action = torch.multinomial(probs, 1)
    policy.saved_log_probs.append(probs.gather(1, action).log().squeeze(1))
    return action.item()


def finish_episode():
    R, returns = 0, []
    for r in policy.rewards[::-1]:
        R = r + 0.99 * R
        returns.insert(0, R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    policy_loss = [-log_prob * R for log_prob, R in zip(policy.saved_log_probs, returns, strict=True)]
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum()
    policy_loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]
    return policy_loss.item()


losses, rewards = [], []
for _ in range(40):
    place, goal = 0.0, random.choice([-1.0, 1.0])
    for _ in range(10):
        action = select_action(np.array([place, goal]))
        place += 0.1 if action == 1 else -0.1
        policy.rewards.append(1.0 - abs(goal - place))
    rewards.append(sum(policy.rewards))
    losses.append(finish_episode())
print(f"reward of the first ten episodes {sum(rewards[:10]) / 10:.2f}, of the last {sum(rewards[-10:]) / 10:.2f}")
print(f"last loss {losses[-1]:.4f}")
