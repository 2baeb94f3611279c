"""A small U-Net that marks the pixels of a disc: pooling down, ConvTranspose2d up, and skip connections."""

import statezoo.core as torch
import statezoo.core.nn as nn
import statezoo.core.nn.functional as F


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        dy = x2.size()[2] - x1.size()[2]
        dx = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inc = DoubleConv(1, 4)
        self.down = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        self.up = Up(8, 4)
        self.outc = nn.Conv2d(4, 1, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        return self.outc(self.up(self.down(x1), x1))


def discs(count, size=17):
    """Return noisy pictures of discs, and masks of their pixels."""
    centre = torch.randint(4, size - 4, (count, 2)).float()
    radius = 2 + 2 * torch.rand(count)
    grid = torch.arange(size).float()
    rows = (grid[None, :, None] - centre[:, 0, None, None]) ** 2
    columns = (grid[None, None, :] - centre[:, 1, None, None]) ** 2
    mask = (rows + columns <= radius[:, None, None] ** 2).float().unsqueeze(1)
    return mask + 0.3 * torch.randn_like(mask), mask


def dice(logits, mask):
    found = (torch.sigmoid(logits) > 0.5).float()
    return (2 * (found * mask).sum() / (found.sum() + mask.sum()).clamp(min=1)).item()


torch.manual_seed(13)
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
net = UNet().to(device=device)
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-2, weight_decay=1e-8, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=3)
losses = []
for step in range(15):
    images, masks = discs(16)
    images = images.to(device=device, dtype=torch.float32)
    logits = net(images)
    loss = criterion(logits, masks)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_value_(net.parameters(), 0.1)
    optimizer.step()
    scheduler.step(dice(logits.detach(), masks))
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, dice {dice(logits.detach(), masks):.2f}")
