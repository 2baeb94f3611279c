"""A model of characters from counts of pairs, and the same model as one layer trained by gradient descent."""

import statezoo.core as torch
import statezoo.core.nn.functional as F

rivers = (
    "amazon danube ebro elbe ganges garonne indus jordan lena loire main mekong meuse moselle murray neckar niger "
    "nile oder orinoco parana rhine rhone seine tagus thames tiber tigris ural vistula volga weser yukon zambezi"
)
words = rivers.split()
chars = sorted(set("".join(words)))
stoi = {s: i + 1 for i, s in enumerate(chars)}
stoi["."] = 0
itos = {i: s for s, i in stoi.items()}
size = len(stoi)

# 1. Counts, with one added to each.
N = torch.zeros((size, size), dtype=torch.int32)
for w in words:
    chs = [".", *w, "."]
    for ch1, ch2 in zip(chs, chs[1:], strict=False):
        N[stoi[ch1], stoi[ch2]] += 1
P = (N + 1).float()
P /= P.sum(1, keepdim=True)

g = torch.Generator().manual_seed(2147483647)
for _ in range(3):
    out, ix = [], 0
    while True:
        ix = torch.multinomial(P[ix], num_samples=1, replacement=True, generator=g).item()
        if ix == 0 or len(out) == 12:
            break
        out.append(itos[ix])
    print("".join(out))

# 2. One layer: one-hot characters in, log-counts out.
xs, ys = [], []
for w in words:
    chs = [".", *w, "."]
    for ch1, ch2 in zip(chs, chs[1:], strict=False):
        xs.append(stoi[ch1])
        ys.append(stoi[ch2])
xs, ys = torch.tensor(xs), torch.tensor(ys)
num = xs.nelement()
log_likelihood = torch.log(P[xs, ys]).mean()
print(f"{num} pairs, counts: {-log_likelihood.item():.4f}")

g = torch.Generator().manual_seed(2147483647)
W = torch.randn((size, size), generator=g, requires_grad=True)
losses = []
for k in range(40):
    xenc = F.one_hot(xs, num_classes=size).float()
    logits = xenc @ W
    counts = logits.exp()
    probs = counts / counts.sum(1, keepdims=True)
    loss = -probs[torch.arange(num), ys].log().mean() + 0.01 * (W**2).mean()
    W.grad = None
    loss.backward()
    W.data += -20 * W.grad
    losses.append(loss.item())
print(f"layer: {losses[0]:.4f} -> {losses[-1]:.4f}")
