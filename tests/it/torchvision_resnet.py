"""Makes random weights of torchvision's ResNet as safetensors, and its probabilities for images.

    python torchvision_resnet.py 18|34 CLASSES images.csv weights.safetensors probabilities.csv

images.csv has a column pixels. The network is written here with torch.nn, with torchvision's layers
and names, because torchvision need not be installed.
"""
import csv
import json
import struct
import sys

import torch
from torch import nn

depth, classes, images_path, weights_path, probabilities_path = sys.argv[1:]
BLOCKS = {"18": [2, 2, 2, 2], "34": [3, 4, 6, 3]}[depth]
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet(nn.Module):
    def __init__(self, blocks, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = 64
        for stage, count in enumerate(blocks):
            outputs = 64 << stage
            layer = []
            for block in range(count):
                layer.append(BasicBlock(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layer))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def save_safetensors(path, tensors):
    types = {torch.float32: "F32", torch.int64: "I64"}
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        data = tensor.contiguous().numpy().tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


torch.manual_seed(1)
torch.set_num_threads(1)
network = ResNet(BLOCKS, int(classes))
norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
for norm in norms:
    # As different from the initial values as those of a trained network.
    nn.init.uniform_(norm.weight, 0.5, 1.0)
    nn.init.normal_(norm.bias, 0.0, 0.2)

csv.field_size_limit(1 << 24)
with open(images_path, newline="") as file:
    pixels = [[int(value) for value in row["pixels"].split()] for row in csv.DictReader(file)]
gray = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 48, 48) / 255
per_color = lambda values: torch.tensor(values).view(1, 3, 1, 1)
color = (gray.expand(-1, 3, -1, -1) - per_color(MEAN)) / per_color(DEVIATION)
with torch.no_grad():
    # Statistics of these images, then a little off, so that features differ between images as much as
    # those of a trained network. Otherwise the last layer would enlarge rounding.
    for norm in norms:
        norm.momentum = 1.0
    network.train()(color)
    network.eval()
    for norm in norms:
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    # Logits that differ by about 1, so that no probability is 0 or 1.
    network.fc.weight /= network(color).std(dim=0).mean()
    network.fc.bias -= network(color).mean(dim=0)
    logits = network(color)
parameters = sum(parameter.numel() for parameter in network.parameters())
assert 0.5 < logits.std() < 2, logits.std()
save_safetensors(weights_path, network.state_dict())
with open(probabilities_path, "w", newline="") as file:
    csv.writer(file).writerows(logits.double().softmax(1).tolist())
print(parameters)
