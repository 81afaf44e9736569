"""2DASL's network (Tu et al., IEEE TMM 2020, arXiv 1903.09359): a ResNet-50 that is given landmarks beside the picture.

    120² × 4 ─ 7×7/2 ─ 60² × 64 ─ maximum ─ 30² ─ 3, 4, 6, 3 bottlenecks ─ 30² × 256, 15² × 512, 8² × 1024, 8² × 2048
    ─ mean of the first 7² ─ linear ─ 62

It differs from the usual ResNet-50 (He et al., CVPR 2016) in its fourth channel, the last stage's stride of 1, and
a mean that leaves out the last row and column. Its names of weights are those of the published checkpoint. 1.96 GMAC.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from training.networks.coefficients import CoefficientNetwork

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1))  # inner channels, blocks, stride
EXPANSION = 4  # a block's output channels over its inner ones
POOLED_SIDE = 7


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


class TwoDASL(nn.Module, CoefficientNetwork):
    """(B, 4, 120, 120) float32, BGR in (x - 127.5) / 128 and landmarks -> (B, 62) whitened numbers, 12 + 40 + 10."""

    input_size = 120
    crop_scale = 2**0.5
    colour_order = "BGR"
    value_range = (-127.5 / 128, 127.5 / 128)
    pose_count = 12
    shape_count = 40
    expression_count = 10
    origin = (0.0, 121.0)
    landmark_channel = True

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        channels = 64
        for number, (inner, blocks, stride) in enumerate(STAGES, 1):
            layers = []
            for block in range(blocks):
                layers.append(Bottleneck(channels, inner, stride if block == 0 else 1))
                channels = EXPANSION * inner
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        self.fc = nn.Linear(channels, self.count)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        x = max_pool2d(self.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(avg_pool2d(x, POOLED_SIDE, stride=2).flatten(1))
