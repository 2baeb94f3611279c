"""A tree of characters as in WaveNet, with layers written by hand."""

import statezoo.core as torch
import statezoo.core.nn.functional as F

rivers = (
    "amazon danube ebro elbe ganges garonne indus irrawaddy jordan lena loire main mekong meuse mississippi "
    "moselle murray neckar niger nile oder orinoco parana rhine rhone seine tagus thames tiber tigris ural "
    "vistula volga weser"
)
words = rivers.split()
stoi = {s: i for i, s in enumerate([".", *sorted(set("".join(words)))])}
vocab_size, block_size = len(stoi), 8


class Linear:
    def __init__(self, fan_in, fan_out, bias=True):
        self.weight = torch.randn((fan_in, fan_out)) / fan_in**0.5
        self.bias = torch.zeros(fan_out) if bias else None

    def __call__(self, x):
        self.out = x @ self.weight
        if self.bias is not None:
            self.out += self.bias
        return self.out

    def parameters(self):
        return [self.weight] + ([] if self.bias is None else [self.bias])


class BatchNorm1d:
    def __init__(self, dim, eps=1e-5, momentum=0.1):
        self.eps, self.momentum, self.training = eps, momentum, True
        self.gamma, self.beta = torch.ones(dim), torch.zeros(dim)
        self.running_mean, self.running_var = torch.zeros(dim), torch.ones(dim)

    def __call__(self, x):
        if self.training:
            dim = 0 if x.ndim == 2 else (0, 1)
            xmean = x.mean(dim, keepdim=True)
            xvar = x.var(dim, keepdim=True)
        else:
            xmean, xvar = self.running_mean, self.running_var
        xhat = (x - xmean) / torch.sqrt(xvar + self.eps)
        self.out = self.gamma * xhat + self.beta
        if self.training:
            with torch.no_grad():
                self.running_mean = (1 - self.momentum) * self.running_mean + self.momentum * xmean
                self.running_var = (1 - self.momentum) * self.running_var + self.momentum * xvar
        return self.out

    def parameters(self):
        return [self.gamma, self.beta]


class Tanh:
    def __call__(self, x):
        self.out = torch.tanh(x)
        return self.out

    def parameters(self):
        return []


class Embedding:
    def __init__(self, num_embeddings, embedding_dim):
        self.weight = torch.randn((num_embeddings, embedding_dim))

    def __call__(self, IX):
        self.out = self.weight[IX]
        return self.out

    def parameters(self):
        return [self.weight]


class FlattenConsecutive:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        B, T, C = x.shape
        x = x.view(B, T // self.n, C * self.n)
        if x.shape[1] == 1:
            x = x.squeeze(1)
        self.out = x
        return self.out

    def parameters(self):
        return []


class Sequential:
    def __init__(self, layers):
        self.layers = layers

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self):
        return [p for layer in self.layers for p in layer.parameters()]


torch.manual_seed(42)
X, Y = [], []
for w in words:
    context = [0] * block_size
    for ch in w + ".":
        X.append(context)
        Y.append(stoi[ch])
        context = [*context[1:], stoi[ch]]
X, Y = torch.tensor(X), torch.tensor(Y)

n_embd, n_hidden = 6, 24
layers = [Embedding(vocab_size, n_embd)]
for fan_in in (n_embd * 2, n_hidden * 2, n_hidden * 2):
    layers += [FlattenConsecutive(2), Linear(fan_in, n_hidden, bias=False), BatchNorm1d(n_hidden), Tanh()]
model = Sequential([*layers, Linear(n_hidden, vocab_size)])
with torch.no_grad():
    model.layers[-1].weight *= 0.1
parameters = model.parameters()
print(sum(p.nelement() for p in parameters), "parameters")
for p in parameters:
    p.requires_grad = True

losses = []
for i in range(80):
    ix = torch.randint(0, X.shape[0], (32,))
    loss = F.cross_entropy(model(X[ix]), Y[ix])
    for p in parameters:
        p.grad = None
    loss.backward()
    lr = 0.1 if i < 60 else 0.01
    for p in parameters:
        p.data += -lr * p.grad
    losses.append(loss.item())
print("mean of ten losses", [round(m, 3) for m in torch.tensor(losses).view(-1, 10).mean(1).tolist()])

for layer in model.layers:
    if isinstance(layer, BatchNorm1d):
        layer.training = False


@torch.no_grad()
def evaluate(x, y):
    return F.cross_entropy(model(x), y).item()


print(f"all: {evaluate(X, Y):.3f}")
ix = torch.multinomial(F.softmax(model(X[:1]), dim=1), num_samples=5, replacement=True)
print("first characters", ["?" if i >= vocab_size else sorted(stoi, key=stoi.get)[i] for i in ix[0].tolist()])
