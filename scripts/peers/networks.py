"""The networks that Grimace is compared on, in PyTorch. Both return logits."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def notebook() -> nn.Module:
    """The notebook's CNN: 619,463 parameters."""
    def block(i, o):
        return [nn.Conv2d(i, o, 3), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(o)]
    return nn.Sequential(*block(1, 32), *block(32, 64), *block(64, 128), nn.Flatten(),
                         nn.Linear(2048, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 7))


class SqueezeExcite(nn.Module):
    """Scales each channel by a factor computed from the means of all."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // ratio)
        self.excite = nn.Linear(channels // ratio, channels)

    def forward(self, x):
        scales = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * scales[:, :, None, None]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, after 2x2 max pooling if `pools`."""

    def __init__(self, inputs: int, outputs: int, pools: bool):
        super().__init__()
        self.pools = pools
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.gate = SqueezeExcite(outputs, 16)
        self.shortcut = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        if self.pools:
            x = F.max_pool2d(x, 2)
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.gate(self.norm2(self.conv2(y))) + self.shortcut(x))


class Record(nn.Module):
    """The network of configs/best/cpu.toml: 2,781,599 parameters."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        shapes = [(32, 64, False), (64, 64, False), (64, 128, True), (128, 128, False), (128, 256, True),
                  (256, 256, False)]
        self.blocks = nn.Sequential(*(Block(*shape) for shape in shapes))
        self.output = nn.Linear(256, 7)

    def forward(self, x):
        x = F.relu(self.norm(F.max_pool2d(self.stem(x), 2)))
        return self.output(self.blocks(x).mean((2, 3)))
