"""A generative adversarial network of points on a circle; the initial weights are those of DCGAN."""

import math

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.optim as optim

nz, ngf, batch = 8, 32, 64


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Linear") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.2)
        nn.init.constant_(m.bias.data, 0)
    elif classname.find("BatchNorm") != -1:
        m.weight.data.normal_(1.0, 0.02)
        m.bias.data.fill_(0)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(nz, ngf),
            nn.BatchNorm1d(ngf),
            nn.ReLU(True),
            nn.Linear(ngf, ngf),
            nn.ReLU(True),
            nn.Linear(ngf, 2),
        )

    def forward(self, input):
        return self.main(input)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, 32),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(32, 32),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(32, 1),
            nn.Sigmoid(),
        )

    def forward(self, input):
        return self.main(input).view(-1)


torch.manual_seed(11)
netG, netD = Generator(), Discriminator()
netG.apply(weights_init)
netD.apply(weights_init)
criterion = nn.BCELoss()
optimizerD = optim.Adam(netD.parameters(), lr=2e-3, betas=(0.5, 0.999))
optimizerG = optim.Adam(netG.parameters(), lr=2e-3, betas=(0.5, 0.999))
fixed_noise = torch.randn(batch, nz)
real_label, fake_label = 1.0, 0.0

losses = []
for i in range(60):
    # The discriminator: real points, then those of the generator.
    netD.zero_grad()
    angle = 2 * math.pi * torch.rand(batch)
    real = torch.stack((torch.cos(angle), torch.sin(angle)), dim=1)
    label = torch.full((batch,), real_label, dtype=torch.float)
    errD_real = criterion(netD(real), label)
    errD_real.backward()
    fake = netG(torch.randn(batch, nz))
    label.fill_(fake_label)
    output = netD(fake.detach())
    errD_fake = criterion(output, label)
    errD_fake.backward()
    D_G_z1 = output.mean().item()
    errD = errD_real + errD_fake
    optimizerD.step()
    # The generator: its points should be taken for real ones.
    netG.zero_grad()
    label.fill_(real_label)
    errG = criterion(netD(fake), label)
    errG.backward()
    optimizerG.step()
    losses += [errD.item(), errG.item()]
    if i % 20 == 0:
        print(f"[{i}/60] loss D {errD.item():.4f}, loss G {errG.item():.4f}, D(G(z)) {D_G_z1:.4f}")

with torch.no_grad():
    points = netG(fixed_noise).detach().cpu()
print(f"mean radius {points.norm(dim=1).mean().item():.3f}")
