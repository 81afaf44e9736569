"""Pictures as a network takes them, and its layers under automatic mixed precision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class InputForm:
    """The colours that a network takes; networks have these fields themselves."""

    colour_order: str  # "RGB" or "BGR"
    value_range: tuple[float, float]  # values of uint8 0 and 255

    @classmethod
    def of(cls, network: nn.Module) -> InputForm:
        """Return that of a network."""
        return cls(network.colour_order, network.value_range)


def image_tensor(network: nn.Module | InputForm, image: Tensor) -> Tensor:
    """Return images (B, S, S, 3) uint8 BGR as (B, 3, S, S) float32 in the network's colour order and value range."""
    low, high = network.value_range
    if network.colour_order == "RGB":
        image = image.flip(3)
    return image.permute(0, 3, 1, 2).float() * ((high - low) / 255) + low


def keep_narrow_layers_float32(network: nn.Module, channels: int = 16) -> None:
    """Take convolutions of fewer than ``channels`` input or output channels out of autocast.

    They gain nothing from bfloat16, and oneDNN's bfloat16 kernels for them have corrupted memory ("double free") on
    CPUs.
    """

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        module.float32_region = torch.autocast(inputs[0].device.type, enabled=False)
        module.float32_region.__enter__()
        return tuple(value.float() for value in inputs)

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.float32_region.__exit__(None, None, None)
        del module.float32_region

    for module in network.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            continue
        if min(module.in_channels, module.out_channels) < channels:
            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)
