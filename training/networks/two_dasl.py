"""2DASL's network (Tu et al., IEEE TMM 2020, arXiv 1903.09359): a ResNet-50 that is given landmarks beside the picture.

    120² × 4 ─ 7×7/2 ─ 60² × 64 ─ maximum ─ 30² ─ 3, 4, 6, 3 bottlenecks ─ 30² × 256, 15² × 512, 8² × 1024, 8² × 2048
    ─ mean of the first 7² ─ linear ─ 62

It differs from the usual ResNet-50 (He et al., CVPR 2016) in its fourth channel, the last stage's stride of 1, and
a mean that leaves out the last row and column. Its names of weights are those of the published checkpoint. 1.96 GMAC.

Two cores train it at some 15 crops a second. At a quarter of the width they train at some 100; `TwoDASL.widen` goes on
from there with all channels (Net2Net: Chen et al., ICLR 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from training.networks.forms import TwoDASLForm

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1))  # inner channels, blocks, stride
EXPANSION = 4  # a block's output channels over its inner ones
POOLED_SIDE = 7
WIDENING_NOISE = 0.02  # of a weight, so that copies of a channel learn to differ


class Bottleneck(nn.Module):
    """ReLU(x + 1×1, 3×3 and 1×1 convolution of x, each with batch normalisation)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        channels_out = EXPANSION * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU()
        self.downsample = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(shortcut + self.bn3(self.conv3(y)))


class TwoDASL(nn.Module, TwoDASLForm):
    """(B, 4, 120, 120) float32, BGR in (x - 127.5) / 128 and landmarks -> (B, 62) whitened numbers, 12 + 40 + 10."""

    divisor = 1  # of all numbers of channels

    def __init__(self) -> None:
        super().__init__()
        channels = 64 // self.divisor
        self.conv1 = nn.Conv2d(4, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        for number, (inner, blocks, stride) in enumerate(STAGES, 1):
            layers = []
            for block in range(blocks):
                layers.append(Bottleneck(channels, inner // self.divisor, stride if block == 0 else 1))
                channels = EXPANSION * inner // self.divisor
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, self.count)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        x = max_pool2d(self.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(avg_pool2d(x, POOLED_SIDE, stride=2).flatten(1))

    @torch.no_grad()
    def widen(self, state: dict[str, Tensor]) -> bool:
        """Take over the weights of a narrower network of this kind, every channel as equal copies; False if it is none.

        The function stays but for `WIDENING_NOISE` on the weights of convolutions; the noise of copies adds up to zero.
        """
        first = state.get("conv1.weight")
        wanted = self.state_dict()
        if first is None or set(state) != set(wanted) or not 0 < len(first) < len(self.conv1.weight):
            return False
        copies = len(self.conv1.weight) // len(first)
        for name, old in wanted.items():
            given = state[name]
            if old.ndim == 0:  # a counter
                wanted[name] = given
                continue
            repeats = [wide // narrow for wide, narrow in zip(old.shape, given.shape, strict=True)]
            if any(repeat not in (1, copies) for repeat in repeats) or len(repeats) != given.ndim:
                return False
            value = given.repeat(repeats)
            if old.ndim > 1 and repeats[1] > 1:
                value = value / copies
                value = value + _balanced_noise(value, copies)
            wanted[name] = value
        self.load_state_dict(wanted)
        return True


class QuarterTwoDASL(TwoDASL):
    """`TwoDASL` with a quarter of the channels: 1.5 M weights, 0.13 GMAC."""

    divisor = 4


def _balanced_noise(weight: Tensor, copies: int) -> Tensor:
    """Return noise like a weight (O, I, ...) that cancels out over the copies of an input channel."""
    noise = torch.randn(weight.shape) * weight.abs() * WIDENING_NOISE
    parts = noise.unflatten(1, (copies, -1))
    return (parts - parts.mean(1, keepdim=True)).flatten(1, 2)
