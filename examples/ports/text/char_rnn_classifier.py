"""A recurrent network from its parts that tells the language of a word, one character at a time."""

import random

import statezoo.core as torch
import statezoo.core.nn as nn

all_letters = "abcdefghijklmnopqrstuvwxyz"
n_letters = len(all_letters)
words = {
    "spanish": "casa perro mesa camino noche ventana puerta cabeza manzana ciudad amigo zapato",
    "german": "haus hund tisch strasse nacht fenster kopf apfel stadt freund schuh weg",
    "finnish": "talo koira kylmyys katu yksi ikkuna ovi omena kaupunki kenka tie kuu",
}
category_lines = {category: line.split() for category, line in words.items()}
all_categories = list(category_lines)


def line_to_tensor(line):
    tensor = torch.zeros(len(line), 1, n_letters)
    for li, letter in enumerate(line):
        tensor[li][0][all_letters.find(letter)] = 1
    return tensor


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size, hidden_size)
        self.h2h = nn.Linear(hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        hidden = torch.tanh(self.i2h(input) + self.h2h(hidden))
        output = self.softmax(self.h2o(hidden))
        return output, hidden

    def initHidden(self):
        return torch.zeros(1, self.hidden_size)


def category_from_output(output):
    top_n, top_i = output.topk(1)
    category_i = top_i[0].item()
    return all_categories[category_i], category_i


def train(category_tensor, line_tensor):
    hidden = rnn.initHidden()
    rnn.zero_grad()
    for i in range(line_tensor.size()[0]):
        output, hidden = rnn(line_tensor[i], hidden)
    loss = criterion(output, category_tensor)
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-learning_rate)
    return output, loss.item()


random.seed(1)
torch.manual_seed(15)
rnn = RNN(n_letters, 32, len(all_categories))
criterion = nn.NLLLoss()
learning_rate = 0.03
losses = []
for iteration in range(1, 151):
    category = random.choice(all_categories)
    line = random.choice(category_lines[category])
    category_tensor = torch.tensor([all_categories.index(category)], dtype=torch.long)
    output, loss = train(category_tensor, line_to_tensor(line))
    losses.append(loss)
    if iteration % 50 == 0:
        guess, _ = category_from_output(output)
        print(f"{iteration} {loss:.4f} {line} / {guess} {'right' if guess == category else 'wrong'}")

confusion = torch.zeros(len(all_categories), len(all_categories))
with torch.no_grad():
    for i, name in enumerate(all_categories):
        for word in category_lines[name]:
            hidden = rnn.initHidden()
            for letter in line_to_tensor(word):
                output, hidden = rnn(letter, hidden)
            confusion[i][category_from_output(output)[1]] += 1
for i in range(len(all_categories)):
    confusion[i] = confusion[i] / confusion[i].sum()
print([round(share, 2) for share in confusion.diag().tolist()])
