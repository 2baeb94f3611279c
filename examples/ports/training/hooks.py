"""Looking into a network with hooks: features of layers, gradients that pass, and a gradient changed on its way."""

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F

activation, gradients, seen = {}, {}, []


def get_activation(name):
    def hook(model, input, output):
        activation[name] = output.detach()

    return hook


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 4, kernel_size=5, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.conv2 = nn.Conv1d(4, 8, 3)
        self.fc = nn.Linear(8 * 12, 3)

    def forward(self, x):
        x = F.elu(self.norm(self.conv1(x)))
        x = F.gelu(self.conv2(x))
        return self.fc(x.flatten(start_dim=1))


torch.manual_seed(29)
model = Net()
handles = [layer.register_forward_hook(get_activation(name)) for name, layer in model.named_children()]
handles.append(model.fc.register_forward_pre_hook(lambda module, args: seen.append(tuple(args[0].shape))))
model.fc.register_full_backward_hook(lambda module, grad_input, grad_output: gradients.update(fc=grad_output[0]))
model.conv1.weight.register_hook(lambda grad: grad * 2)

t = torch.linspace(0, 6.28, 32)
phase = torch.rand(48, 1) * 6.28
kind = torch.arange(48) % 3
x = torch.sin((kind[:, None] + 1) * t + phase).unsqueeze(1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
losses = []
for _ in range(25):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), kind)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
for name, features in activation.items():
    print(name, list(features.shape), f"mean {features.mean().item():.4f}")
print("into fc", seen[0], "gradient of its output", tuple(gradients["fc"].shape))
for handle in handles:
    handle.remove()
activation.clear()
model(x)
print("after remove()", activation, f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")

extractor = nn.Sequential(*list(model.children())[:3])
print("features", tuple(extractor(x).shape), "layers", [type(m).__name__ for m in extractor])
saliency = x[:4].clone().requires_grad_()
model(saliency).max(dim=1)[0].sum().backward()
print(f"saliency {tuple(saliency.grad.shape)}, largest {saliency.grad.abs().max().item():.4f}")
