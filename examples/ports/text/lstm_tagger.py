"""An LSTM that tags the words of a sentence, in two directions, with padding that the loss ignores."""

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F

training_data = [
    (["the", "miller", "grinds", "the", "corn"], ["DET", "NN", "V", "DET", "NN"]),
    (["everybody", "read", "that", "book"], ["NN", "V", "DET", "NN"]),
    (["the", "old", "wheel", "turns"], ["DET", "ADJ", "NN", "V"]),
    (["the", "river", "runs"], ["DET", "NN", "V"]),
    (["that", "river", "turns", "the", "wheel"], ["DET", "NN", "V", "DET", "NN"]),
]
word_to_ix, tag_to_ix = {}, {}
for sentence, tags in training_data:
    for word in sentence:
        word_to_ix.setdefault(word, len(word_to_ix))
    for tag in tags:
        tag_to_ix.setdefault(tag, len(tag_to_ix))


def prepare_sequence(seq, to_ix):
    return torch.tensor([to_ix[w] for w in seq], dtype=torch.long)


class LSTMTagger(nn.Module):
    def __init__(self, embedding_dim, hidden_dim, vocab_size, tagset_size):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim)
        self.hidden2tag = nn.Linear(hidden_dim, tagset_size)

    def forward(self, sentence):
        embeds = self.word_embeddings(sentence)
        lstm_out, _ = self.lstm(embeds.view(len(sentence), 1, -1))
        tag_space = self.hidden2tag(lstm_out.view(len(sentence), -1))
        return F.log_softmax(tag_space, dim=1)


torch.manual_seed(1)
model = LSTMTagger(6, 6, len(word_to_ix), len(tag_to_ix))
loss_function = nn.NLLLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
losses = []
for _ in range(20):
    for sentence, tags in training_data:
        model.zero_grad()
        tag_scores = model(prepare_sequence(sentence, word_to_ix))
        loss = loss_function(tag_scores, prepare_sequence(tags, tag_to_ix))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
print(f"one sentence at a time: {losses[-1]:.4f}")


class BiLSTMTagger(nn.Module):
    def __init__(self, vocab_size, tagset_size, dim=8):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size + 1, dim, padding_idx=vocab_size)
        self.lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * dim, tagset_size)

    def forward(self, x):
        out, (h_n, c_n) = self.lstm(self.embedding(x))
        return self.fc(out)


pad = nn.utils.rnn.pad_sequence
inputs = pad(
    [prepare_sequence(s, word_to_ix) for s, _ in training_data], batch_first=True, padding_value=len(word_to_ix)
)
targets = pad([prepare_sequence(t, tag_to_ix) for _, t in training_data], batch_first=True, padding_value=-100)
model = BiLSTMTagger(len(word_to_ix), len(tag_to_ix))
criterion = nn.CrossEntropyLoss(ignore_index=-100)
optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
for _ in range(25):
    optimizer.zero_grad()
    scores = model(inputs)
    loss = criterion(scores.permute(0, 2, 1), targets)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
mask = targets != -100
right = (model(inputs).argmax(-1) == targets)[mask].float().mean()
print(f"padded batches: {losses[-1]:.4f}, right {right:.2f}")
