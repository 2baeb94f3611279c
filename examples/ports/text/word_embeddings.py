"""Embeddings of words: an n-gram model, a continuous bag of words, and a classifier of bags of words."""

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F
import statezoo.core.optim as optim

torch.manual_seed(17)
verses = (
    "the wheel goes round the stones grind slow the flour falls white as winter snow the miller wakes before the "
    "day and sends the carts along the way the carts come home when day is done the wheel still turns without the "
    "sun"
)
words = verses.split()
vocab = sorted(set(words))
word_to_ix = {word: i for i, word in enumerate(vocab)}
losses = []


class NGram(nn.Module):
    def __init__(self, vocab_size, embedding_dim, context_size):
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.linear1 = nn.Linear(context_size * embedding_dim, 32)
        self.linear2 = nn.Linear(32, vocab_size)

    def forward(self, inputs):
        embeds = self.embeddings(inputs).view((1, -1))
        out = F.relu(self.linear1(embeds))
        return F.log_softmax(self.linear2(out), dim=1)


ngrams = [([words[i - 2], words[i - 1]], words[i]) for i in range(2, len(words))]
model = NGram(len(vocab), 8, 2)
loss_function = nn.NLLLoss()
optimizer = optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    total_loss = 0
    for context, target in ngrams:
        context_idxs = torch.tensor([word_to_ix[w] for w in context], dtype=torch.long)
        model.zero_grad()
        loss = loss_function(model(context_idxs), torch.tensor([word_to_ix[target]], dtype=torch.long))
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    losses.append(total_loss)
    print(f"n-grams, epoch {epoch}: {total_loss:.3f}")


class CBOW(nn.Module):
    def __init__(self, vocab_size, embedding_dim):
        super().__init__()
        self.embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.proj = nn.Linear(embedding_dim, vocab_size)
        nn.init.uniform_(self.embeddings.weight, -0.5, 0.5)

    def forward(self, inputs):
        return self.proj(self.embeddings(inputs).sum(dim=1))


contexts = torch.tensor([[word_to_ix[words[i + j]] for j in (-2, -1, 1, 2)] for i in range(2, len(words) - 2)])
targets = torch.tensor([word_to_ix[words[i]] for i in range(2, len(words) - 2)])
model = CBOW(len(vocab), 8)
optimizer = optim.Adagrad(model.parameters(), lr=0.2)
for _ in range(20):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(contexts), targets)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"bag of words: {losses[-1]:.3f}")


class BoWClassifier(nn.Module):
    def __init__(self, vocab_size, embedding_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embedding_dim, mode="mean")
        self.fc = nn.Linear(embedding_dim, num_class)

    def forward(self, text, offsets):
        return self.fc(self.embedding(text, offsets))


lines = [
    "the wheel turns",
    "the stones grind slow",
    "white winter snow",
    "the miller wakes before day",
    "the sun is done",
]
labels = torch.tensor([0, 0, 1, 0, 1])
ids = [torch.tensor([word_to_ix[w] for w in line.split()]) for line in lines]
offsets = torch.tensor([0] + [len(each) for each in ids]).cumsum(dim=0)[:-1]
model = BoWClassifier(len(vocab), 8, 2)
optimizer = optim.SGD(model.parameters(), lr=1.0)
scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
for _ in range(20):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.cat(ids), offsets), labels)
    loss.backward()
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
print(f"classifier: {losses[-1]:.3f}, classes {model(torch.cat(ids), offsets).argmax(1).tolist()}")
