"""Parameters, arithmetic and memory traffic of the networks of configs/, for model.py."""
from __future__ import annotations

from dataclasses import dataclass, field

CLASSES = 7


@dataclass
class Network:
    """Sums over the layers of a network for one 48x48 image, filled in by the functions below."""

    name: str
    launches: int                   # a step in bf16: counted, tests/it/cuda/device_b.rs
    parameters: int = 0
    macs: int = 0                   # multiply-adds of a forward pass
    map_values: int = 0             # values of the outputs of all convolutions
    norms: list[int] = field(default_factory=list)      # channels of each batch norm

    @property
    def gradient_bytes(self) -> int:
        """All gradients, float32: what one all-reduce sums."""
        return 4 * self.parameters

    @property
    def training_flops(self) -> int:
        """Forward pass, and a backward pass of twice its arithmetic."""
        return 6 * self.macs

    def traffic(self, passes: float) -> float:
        """Bytes of GPU memory that a training step reads and writes per image: each convolution's
        output is bf16 and passes through memory `passes` times (convolution, batch norm, ReLU, and
        their gradients)."""
        return 2 * passes * self.map_values

    def convolution(self, inputs: int, outputs: int, kernel: int, side: int, bias: bool = False) -> None:
        """A convolution with an output of side x side pixels."""
        self.parameters += kernel * kernel * inputs * outputs + (outputs if bias else 0)
        self.macs += kernel * kernel * inputs * outputs * side * side
        self.map_values += outputs * side * side

    def norm(self, channels: int) -> None:
        """Batch norm: scale and shift."""
        self.parameters += 2 * channels
        self.norms.append(channels)

    def dense(self, inputs: int, outputs: int) -> None:
        """A dense layer with biases."""
        self.parameters += (inputs + 1) * outputs
        self.macs += inputs * outputs


def cnn(name: str, launches: int, filters: list[int], dense: int) -> Network:
    """`kind = "cnn"`: valid 3x3 convolutions, each with 2x2 pooling and batch norm; dense layers."""
    network = Network(name, launches)
    inputs, side = 1, 48
    for outputs in filters:
        network.convolution(inputs, outputs, 3, side - 2, bias=True)
        network.norm(outputs)
        inputs, side = outputs, (side - 2) // 2
    network.dense(inputs * side * side, dense)
    network.dense(dense, CLASSES)
    return network


def resnet(name: str, launches: int, stem: int, widths: list[int], pooled_stem: bool) -> Network:
    """`kind = "resnet"`: two residual blocks a stage, squeeze-and-excitation with ratio 16."""
    network = Network(name, launches)
    network.convolution(1, stem, 3, 48)
    network.norm(stem)
    inputs, side = stem, 24 if pooled_stem else 48
    for stage, outputs in enumerate(widths):
        side = side // 2 if stage else side
        for _ in range(2):
            if inputs != outputs:
                network.convolution(inputs, outputs, 1, side)
                network.norm(outputs)
            network.convolution(inputs, outputs, 3, side)
            network.norm(outputs)
            network.convolution(outputs, outputs, 3, side)
            network.norm(outputs)
            network.dense(outputs, outputs // 16)
            network.dense(outputs // 16, outputs)
            inputs = outputs
    network.dense(inputs, CLASSES)
    return network


def networks() -> dict[str, Network]:
    """The networks of the tables, by the names of their configs."""
    found = [
        cnn("notebook", 87, [32, 64, 128], 256),
        resnet("best/cpu", 406, 32, [64, 128, 256], pooled_stem=True),
        resnet("best/gpu", 488, 64, [64, 128, 256, 512], pooled_stem=False),
    ]
    return {network.name: network for network in found}
