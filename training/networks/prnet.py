"""resfcn256, the network of PRNet (Feng et al., ECCV 2018), layer for layer as in the published code (MIT licence).

    image (B, 3, 256, 256) ─ 4×4 convolution ─ 10 residual blocks ─▶ code (B, 512, 8, 8)
    code (B, 512, 8, 8) ─ 17 transposed convolutions ─ sigmoid ─▶ map (B, 3, 256, 256)

13.4 M parameters, 4.13 GMAC. No layer has a bias. Padding is TensorFlow's SAME, not PyTorch's: for a 4×4 kernel at
stride 1 it is uneven, one pixel before, two after.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.networks.forms import PRNetForm

KERNEL = 4
# output channels, stride
RESIDUAL_BLOCKS = ((32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
TRANSPOSED = (
    *((512, 1), (256, 2), (256, 1), (256, 1), (128, 2), (128, 1), (128, 1), (64, 2), (64, 1), (64, 1)),
    *((32, 2), (32, 1), (16, 2), (16, 1), (3, 1), (3, 1), (3, 1)),
)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with TensorFlow's defaults, as in the published code: decay 0.999, epsilon 0.001."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=1e-3)


class SameConv(nn.Conv2d):
    """4×4 convolution with SAME padding: (B, I, H, W) -> (B, O, H / stride, W / stride)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, KERNEL, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        after = 2 if self.stride[0] == 1 else 1
        return super().forward(nn.functional.pad(x, (1, after, 1, after)))


class SameConvTranspose(nn.ConvTranspose2d):
    """TensorFlow's transposed convolution, the gradient of `SameConv`.

    (B, I, H, W) -> (B, O, H * stride, W * stride).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, KERNEL, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.stride[0] == 2 else y[:, :, :-1, :-1]


class ConvNorm(nn.Module):
    """A convolution of any kind, then batch normalisation."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.conv = conv
        self.norm = batch_norm(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class ResidualBlock(nn.Module):
    """1×1 down to half the channels, 4×4, 1×1 up; the normalisation comes after the addition."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        half = channels_out // 2
        has_shortcut = stride != 1 or channels_in != channels_out
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False) if has_shortcut else nn.Identity()
        self.reduce = ConvNorm(nn.Conv2d(channels_in, half, 1, bias=False))
        self.spatial = ConvNorm(SameConv(half, half, stride))
        self.expand = nn.Conv2d(half, channels_out, 1, bias=False)
        self.norm = batch_norm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.reduce(x))
        y = torch.relu(self.spatial(y))
        return torch.relu(self.norm(self.expand(y) + self.shortcut(x)))


class PRNet(nn.Module, PRNetForm):
    """(B, 3, 256, 256) float32 RGB in 0..1 -> (B, 3, 256, 256) position map in 0..1, crop px = output * 281.6."""

    def __init__(self) -> None:
        super().__init__()
        channels = 16
        self.stem = ConvNorm(SameConv(3, channels, 1))
        self.encoder = nn.Sequential()
        for channels_out, stride in RESIDUAL_BLOCKS:
            self.encoder.append(ResidualBlock(channels, channels_out, stride))
            channels = channels_out
        self.decoder = nn.Sequential()
        for channels_out, stride in TRANSPOSED:
            self.decoder.append(ConvNorm(SameConvTranspose(channels, channels_out, stride)))
            channels = channels_out
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(module.weight)  # the default of tf.contrib.layers

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder(torch.relu(self.stem(image)))
        for layer in self.decoder[:-1]:
            x = torch.relu(layer(x))
        return torch.sigmoid(self.decoder[-1](x))

    def tensorflow_names(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return for keys of ``state_dict()`` the published checkpoint's variable and the axes to transpose it by.

        Covers every variable of the network: ``state[key] = variable.transpose(axes)``. The batch counters of PyTorch
        have no counterpart, nor have the checkpoint's Adam slots here.
        """
        names = _conv_norm_names("stem", "resfcn256/Conv")
        for index, block in enumerate(self.encoder):
            ours, theirs = f"encoder.{index}", "resfcn256/resBlock" + (f"_{index}" if index else "")
            names |= _conv_norm_names(f"{ours}.reduce", f"{theirs}/Conv")
            names |= _conv_norm_names(f"{ours}.spatial", f"{theirs}/Conv_1")
            names |= _weight_name(f"{ours}.expand", f"{theirs}/Conv_2")
            names |= _norm_names(f"{ours}.norm", f"{theirs}/BatchNorm")
            if isinstance(block.shortcut, nn.Conv2d):
                names |= _weight_name(f"{ours}.shortcut", f"{theirs}/shortcut")
        for index in range(len(self.decoder)):
            names |= _conv_norm_names(f"decoder.{index}", "resfcn256/Conv2d_transpose" + (f"_{index}" if index else ""))
        return names


def _conv_norm_names(ours: str, theirs: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    return _weight_name(f"{ours}.conv", theirs) | _norm_names(f"{ours}.norm", f"{theirs}/BatchNorm")


def _weight_name(ours: str, theirs: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the name of a convolution's weights and their axes.

    They are (height, width, in, out) there and (out, in, height, width) here; transposed ones have in and out swapped
    in both.
    """
    return {f"{ours}.weight": (f"{theirs}/weights", (3, 2, 0, 1))}


def _norm_names(ours: str, theirs: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    pairs = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
    return {f"{ours}.{our_name}": (f"{theirs}/{their_name}", (0,)) for our_name, their_name in pairs}
