"""An LSTM that writes verses character by character, trained by truncated backpropagation through time."""

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F

text = (
    "the river runs below the hill and turns the wheel of the old mill. the wheel goes round, the stones grind slow, "
    "the flour falls white as winter snow. the miller wakes before the day and sends the carts along the way. "
) * 2
chars = sorted(set(text))
char2int = {ch: i for i, ch in enumerate(chars)}
data = torch.tensor([char2int[c] for c in text], dtype=torch.long)


class CharLSTM(nn.Module):
    def __init__(self, vocab, embed=16, hidden=48, layers=2):
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.embedding = nn.Embedding(vocab, embed)
        self.lstm = nn.LSTM(embed, hidden, num_layers=layers, batch_first=True)
        self.fc = nn.Linear(hidden, vocab)

    def forward(self, x, state):
        out, state = self.lstm(self.embedding(x), state)
        out = out.contiguous().view(-1, self.hidden)
        return self.fc(out), state

    def init_hidden(self, batch_size):
        weight = next(self.parameters()).data
        return (
            weight.new_zeros(self.layers, batch_size, self.hidden),
            weight.new_zeros(self.layers, batch_size, self.hidden),
        )


torch.manual_seed(16)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
batch_size, seq_len = 4, 20
n_batches = (len(data) - 1) // (batch_size * seq_len)
xs = data[: n_batches * batch_size * seq_len].view(batch_size, -1)
ys = data[1 : n_batches * batch_size * seq_len + 1].view(batch_size, -1)
model = CharLSTM(len(chars)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
losses = []
for epoch in range(6):
    h = model.init_hidden(batch_size)
    for i in range(0, xs.size(1), seq_len):
        h = tuple(each.detach() for each in h)
        model.zero_grad()
        output, h = model(xs[:, i : i + seq_len].to(device), h)
        loss = F.cross_entropy(output, ys[:, i : i + seq_len].reshape(-1).to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5)
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch + 1}: loss {loss.item():.4f}")


def sample(prime, length, temperature=0.8):
    model.eval()
    h = model.init_hidden(1)
    x = torch.tensor([[char2int[c] for c in prime]], dtype=torch.long)
    written = prime
    with torch.no_grad():
        for _ in range(length):
            logits, h = model(x, h)
            probs = F.softmax(logits[-1] / temperature, dim=0)
            top = torch.topk(probs, 5)
            choice = top.indices[torch.multinomial(top.values, 1)]
            written += chars[choice.item()]
            x = choice.view(1, 1)
    return written


print(sample("the ", 20))
