"""A transformer encoder that finds out which of two symbols is more frequent, with sinusoidal positions and a mask."""

import math

import statezoo.core as torch
from statezoo.core import nn


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout=0.1, max_len=64):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, d_model)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe.unsqueeze(0))

    def forward(self, x):
        return self.dropout(x + self.pe[:, : x.size(1)])


class Classifier(nn.Module):
    def __init__(self, vocab, d_model=16, nhead=2, layers=2):
        super().__init__()
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab, d_model, padding_idx=0)
        self.positions = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, 32, dropout=0.0, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(d_model)
        self.fc = nn.Linear(d_model, 2)
        self.init_weights()

    def init_weights(self):
        initrange = 0.1
        self.embedding.weight.data.uniform_(-initrange, initrange)
        self.fc.bias.data.zero_()
        self.fc.weight.data.uniform_(-initrange, initrange)
        for p in self.encoder.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, tokens):
        padding = tokens == 0
        x = self.positions(self.embedding(tokens) * math.sqrt(self.d_model))
        x = self.encoder(x, src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).float()
        return self.fc(self.norm((x * kept).sum(1) / kept.sum(1)))


def batch(size=32, length=12):
    tokens = torch.randint(1, 5, (size, length))
    lengths = torch.randint(6, length + 1, (size,))
    tokens[torch.arange(length)[None, :] >= lengths[:, None]] = 0
    return tokens, ((tokens == 1).sum(1) > (tokens == 2).sum(1)).long()


torch.manual_seed(19)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
model = Classifier(5).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=40)
model.train()
losses = []
for step in range(40):
    tokens, classes = (t.to(device) for t in batch())
    optimizer.zero_grad()
    loss = criterion(model(tokens), classes)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.4f}, lr {optimizer.param_groups[0]['lr']:.5f}")
model.eval()
with torch.no_grad():
    tokens, classes = batch(200)
    print(f"accuracy {(model(tokens).argmax(1) == classes).float().mean().item():.2f}")
