"""UH-E2FAR (Dou, Shah, Kakadiaris, CVPR 2017): VGG-16 with a head for identity and one for expression.

    180² × 3 ─ VGG-16 ─▶ pool4 11² × 512 ─▶ pool5 5² × 512
    pool5 ─ 4096 ─ 1024 ─▶ 40 of shape
    pool4 ─ 5×5/2 ─┬─ 1×1 ─ 4096 ─ 1024 ─▶ 10 of expression          the fusion network
    pool5 ─ 1×1 ───┘
    pool5 ─ 1×1 to 64 ─▶ 12 of pose

Sizes, input and crop are those of the authors' public code (ShownX/mxnet-E2FAR), the heads' ends those of this
project's face model. Paper and code leave the pose to the program around the network; the pose here is a head of its
own. A ReLU follows every hidden layer, as in VGG-16; the public code has none in the heads, which makes a matrix of
12,800 × 40 of each. 135.4 M weights, 113 M of them fully connected, 10 GMAC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from runtime.errors import FaceMeshError
from training.networks.forms import E2farForm

# Channels of the trunk's convolutions, stage by stage; a maximum over 2×2 follows each (configuration D of VGG).
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
POSE_CHANNELS = 64
INPUT_UNIT = 64.0  # colours, about their standard deviation: the first weights are drawn for inputs of unit variance
FIRST_STEP = 0.01
# BGR means that Caffe's VGG-16 subtracts, colours 0..255; RGB means and deviations of torchvision's, colours 0..1.
CAFFE_MEANS = (103.939, 116.779, 123.68)
TORCHVISION_MEANS, TORCHVISION_STDS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class E2far(nn.Module, E2farForm):
    """(B, 3, 180, 180) float32 RGB - 127.5 -> (B, 62) whitened numbers, 12 + 40 + 10.

    The trunk's convolutions have the names of Caffe's VGG-16, ``conv1_1`` to ``conv5_3``.
    """

    trunk_frozen = False  # while it is True, training leaves the trunk alone

    def __init__(self, width: int = 1) -> None:
        """Draw the weights; ``width`` divides the channels and hidden numbers: 4 makes a sixteenth of the network."""
        super().__init__()
        self.width = width
        channels_in = 3
        for stage, channels in enumerate(STAGES, 1):
            for number, channels_out in enumerate(channels, 1):
                conv = nn.Conv2d(channels_in, channels_out // width, 3, padding=1)
                self.add_module(f"conv{stage}_{number}", conv)
                channels_in = channels_out // width
        self.conv6 = nn.Conv2d(channels_in, channels_in, 5, stride=2, padding=1)
        self.conv7 = nn.Conv2d(channels_in, channels_in, 1)
        self.conv8 = nn.Conv2d(2 * channels_in, channels_in, 1)
        self.pose_reduce = nn.Conv2d(channels_in, POSE_CHANNELS, 1)
        pixels = (self.input_size // 2 ** len(STAGES)) ** 2
        sizes = (channels_in * pixels, 4096 // width, 1024 // width)
        self.identity = _head(*sizes, self.shape_count)
        self.expression = _head(*sizes, self.expression_count)
        self.pose = nn.Linear(POSE_CHANNELS * pixels, self.pose_count)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.conv1_1.weight.div_(INPUT_UNIT)
            for last in (self.identity[-1], self.expression[-1], self.pose):
                last.weight.mul_(FIRST_STEP)  # so that a run begins near the mean face

    def forward(self, image: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.trunk_frozen):
            pool4, pool5 = self.trunk(image)
        pose = self.pose(torch.relu(self.pose_reduce(pool5)).flatten(1))
        identity, fused = self.head_inputs(pool4, pool5)
        return torch.cat([pose, self.identity(identity), self.expression(fused)], 1)

    def head_inputs(self, pool4: Tensor, pool5: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the heads of identity and of expression read, (B, 12800) each."""
        fused = torch.cat([torch.relu(self.conv6(pool4)), torch.relu(self.conv7(pool5))], 1)
        return pool5.flatten(1), torch.relu(self.conv8(fused)).flatten(1)

    def trunk(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return pool4 (B, 512, 11, 11) and pool5 (B, 512, 5, 5)."""
        pools, x = [], image
        for stage, channels in enumerate(STAGES, 1):
            for number in range(1, 1 + len(channels)):
                x = torch.relu(self.get_submodule(f"conv{stage}_{number}")(x))
            x = max_pool2d(x, 2)
            pools.append(x)
        return pools[-2], pools[-1]

    def adapt_to(self, state: Mapping[str, Tensor]) -> None:
        """Take over the width of a state dict, and the ranks of heads in low rank (`training.networks.low_rank`)."""
        first = state.get("conv1_1.bias")
        channels = STAGES[0][0] if first is None else max(1, len(first))
        if channels * self.width != STAGES[0][0] and STAGES[0][0] % channels == 0:
            self.__init__(width=STAGES[0][0] // channels)
        for name, layer in fully_connected(self).items():
            inner = state.get(f"{name}.0.weight")
            if inner is not None and inner.ndim == 2:
                set_layer(self, name, low_rank_layer(layer.in_features, len(inner), layer.out_features))

    @staticmethod
    def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict with torchvision's names of the trunk's weights replaced by Caffe's."""
        places = _torchvision_names()
        pattern = re.compile(r"(features\.\d+)\.(weight|bias)")
        renamed = {}
        for name, value in state.items():
            match = pattern.fullmatch(name)
            renamed[f"{places[match[1]]}.{match[2]}" if match and match[1] in places else name] = value
        return renamed

    @torch.no_grad()
    def load_trunk(self, state: Mapping[str, Tensor]) -> None:
        """Start the trunk at a VGG-16: Caffe's names and colours (BGR minus mean), or torchvision's.

        The other network's way with colours goes into the first layer. Raises `FaceMeshError` if tensors are missing
        or have other shapes.
        """
        is_torchvision = any(name.startswith("features.") for name in state)
        weights = self.own_names(state)
        wanted = {name: value for name, value in self.state_dict().items() if re.match(r"conv[1-5]_", name)}
        fits = {name: name in weights and weights[name].shape == value.shape for name, value in wanted.items()}
        if missing := [name for name, fit in fits.items() if not fit]:
            raise FaceMeshError(
                f"not the trunk of a VGG-16: {len(missing)} of {len(wanted)} tensors are missing or misshapen, first "
                f"{missing[0]}; give conv1_1.weight … or features.0.weight …"
            )
        self.load_state_dict({name: weights[name].float() for name in wanted}, strict=False)
        first = self.conv1_1
        if is_torchvision:
            mean, std = 255 * torch.tensor(TORCHVISION_MEANS), 255 * torch.tensor(TORCHVISION_STDS)
        else:
            first.weight.copy_(first.weight.flip(1))
            mean, std = torch.tensor(CAFFE_MEANS).flip(0), torch.ones(3)
        first.weight.div_(std[:, None, None])
        first.bias.add_((first.weight.sum((2, 3)) * (127.5 - mean)).sum(1))


def fully_connected(network: E2far) -> dict[str, nn.Linear]:
    """Return the large layers of the heads by name; those that are shrunk already are left out."""
    heads = {"identity": network.identity, "expression": network.expression}
    layers = {f"{head}.{place}": layers[place] for head, layers in heads.items() for place in (0, 2)}
    return {name: layer for name, layer in layers.items() if isinstance(layer, nn.Linear)}


def set_layer(network: E2far, name: str, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the one called ``name``."""
    head, _, place = name.partition(".")
    network.get_submodule(head)[int(place)] = layer


def low_rank_layer(features_in: int, rank: int, features_out: int) -> nn.Sequential:
    """Return a linear layer in two parts, with ``rank`` numbers between."""
    return nn.Sequential(nn.Linear(features_in, rank, bias=False), nn.Linear(rank, features_out))


def _head(inputs: int, first: int, second: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, outputs)
    )


def _torchvision_names() -> dict[str, str]:
    """Return ``features.N`` -> ``convS_K``: a ReLU follows every convolution, a maximum every stage."""
    names, place = {}, 0
    for stage, channels in enumerate(STAGES, 1):
        for number in range(1, 1 + len(channels)):
            names[f"features.{place}"] = f"conv{stage}_{number}"
            place += 2
        place += 1
    return names
