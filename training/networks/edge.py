"""The edge network: a mobile encoder whose latent vector a learned linear layer expands to a 64 x 64 position map.

    image (B, 3, 128, 128) ─ mobile encoder ─▶ (B, 512, 4, 4) ─ 4×4 convolution ─▶ latent (B, K)
    latent (B, K) ─ linear ─▶ map (B, 3, 64, 64)

Position maps of one face model under weak perspective lie close to a linear space: 128 principal components of randomly
turned, shifted and scaled training maps leave 0.04 % of the face size. So no decoder of transposed convolutions is
needed; the runtime samples the small map at the vertices, which is exact for a bilinear surface.

The encoder is MobileNetV1 × 0.5 deepened by residual blocks where pixels are few. Its backbone has the layers and
parameter names of 3DDFA_V2's small network (Guo et al., ECCV 2020; MIT licence), so that those weights can be a
starting point (`EdgeNet.load_mb05`); the residual blocks begin as identities. Convolution, batch normalisation, ReLU,
addition, reshape and a matrix product are all the operators there are. 0.16 GFLOP.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from runtime.errors import FaceMeshError
from training.networks.confidence import ConfidenceHead
from training.networks.forms import EdgeForm

# name, output channels, stride: MobileNetV1 (Howard et al., 2017, table 1) at width 0.5
BLOCKS = (
    ("dw2_1", 32, 1),
    ("dw2_2", 64, 2),
    ("dw3_1", 64, 1),
    ("dw3_2", 128, 2),
    ("dw4_1", 128, 1),
    ("dw4_2", 256, 2),
    ("dw5_1", 256, 1),
    ("dw5_2", 256, 1),
    ("dw5_3", 256, 1),
    ("dw5_4", 256, 1),
    ("dw5_5", 256, 1),
    ("dw5_6", 512, 2),
    ("dw6", 512, 1),
)
# Residual blocks that follow a block of the backbone: at 16 × 16 × 128, 8 × 8 × 256 and 4 × 4 × 512 all cost the same.
RESIDUAL = {"dw4_1": 2, "dw5_5": 3, "dw6": 2}
INNER_BLOCK, INNER_CHANNELS = "dw5_5", 256  # the block, residual blocks included, that a confidence head reads


class DepthwiseSeparable(nn.Module):
    """3×3 depthwise and 1×1 convolution, each with batch normalisation and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in, bias=False)
        self.bn_dw = nn.BatchNorm2d(channels_in)
        self.conv_sep = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn_dw(self.conv_dw(x)))
        return torch.relu(self.bn_sep(self.conv_sep(x)))


class ResidualSeparable(nn.Module):
    """x + depthwise separable convolution of x, ReLU; an identity on positive x until it is trained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn_dw = nn.BatchNorm2d(channels)
        self.conv_sep = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn_sep.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn_dw(self.conv_dw(x)))
        return torch.relu(x + self.bn_sep(self.conv_sep(y)))


class MobileEncoder(nn.Module):
    """(B, 3, S, S) -> (B, 512, S/32, S/32) float32."""

    def __init__(self, residual: Mapping[str, int] = RESIDUAL) -> None:
        """Build the layers; ``residual``: residual blocks after each block, {} for the plain MobileNetV1 × 0.5."""
        super().__init__()
        self.residual = residual
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for name, channels_out, stride in BLOCKS:
            self.add_module(name, DepthwiseSeparable(channels, channels_out, stride))
            channels = channels_out
            if name in residual:
                blocks = [ResidualSeparable(channels) for _ in range(residual[name])]
                self.add_module(f"{name}_residual", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[1]

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return inner features (B, 256, S/16, S/16) and the last ones (B, 512, S/32, S/32)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        inner = x
        for name, _, _ in BLOCKS:
            x = self.get_submodule(name)(x)
            if name in self.residual:
                x = self.get_submodule(f"{name}_residual")(x)
            if name == INNER_BLOCK:
                inner = x
        return inner, x


class EdgeNet(nn.Module, EdgeForm):
    """(B, 3, 128, 128) float32 BGR in (x - 127.5) / 128 -> (B, 3, 64, 64) position map, crop px = output * 140.8.

    With a confidence head (`add_confidence`) the result is (map, confidence (B, 1) in 0..1). Its features are detached:
    training it does not move the map.
    """

    # Adam moves every weight alike; those of the late principal components are too small to bear it.
    rate_factors = {"expand": 0.01}

    def __init__(self, latent: int = 128) -> None:
        super().__init__()
        self.encoder = MobileEncoder()
        self.confidence: ConfidenceHead | None = None
        self._make_head(latent)

    def _make_head(self, latent: int) -> None:
        self.squeeze = nn.Conv2d(512, latent, self.input_size // 32)
        self.expand = nn.Linear(latent, 3 * self.output_size**2)

    def add_confidence(self) -> ConfidenceHead:
        """Add a fresh confidence head and return it."""
        self.confidence = ConfidenceHead(self.squeeze.out_channels, INNER_CHANNELS)
        return self.confidence

    def adapt_to(self, state: dict[str, Tensor]) -> None:
        """Take over latent size and confidence head of a state dict that is about to be loaded."""
        weight = state.get("squeeze.weight")
        if weight is not None and weight.ndim == 4 and len(weight) != self.squeeze.out_channels:
            self._make_head(len(weight))
        if self.confidence is None and any(name.startswith("confidence.") for name in state):
            self.add_confidence()

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        inner, last = self.encoder.features(image)
        latent = self.squeeze(last).flatten(1)
        position_map = self.expand(latent).unflatten(1, (3, self.output_size, self.output_size))
        if self.confidence is None:
            return position_map
        return position_map, self.confidence(latent.detach(), inner.detach())

    def load_mb05(self, state: dict[str, Tensor]) -> None:
        """Start the backbone at the weights of 3DDFA_V2's ``mb05_120x120.pth``, keys ``module.*``, without its heads.

        Raises `FaceMeshError` if tensors of the backbone are missing or have other shapes.
        """
        weights = {name.removeprefix("module."): value for name, value in state.items()}
        wanted = {name: value for name, value in self.encoder.state_dict().items() if "_residual." not in name}
        fits = {name: name in weights and weights[name].shape == value.shape for name, value in wanted.items()}
        if missing := [name for name, fit in fits.items() if not fit]:
            raise FaceMeshError(
                f"not the weights of 3DDFA_V2's mb05: {len(missing)} tensors are missing or misshapen, "
                f"first {missing[0]}; give mb05_120x120.pth"
            )
        self.encoder.load_state_dict({name: weights[name] for name in wanted}, strict=False)

    @torch.no_grad()
    def fit_expansion(self, maps: Tensor) -> None:
        """Start the linear layer at the principal components of maps (N, 3, 64, 64); latents get unit variance."""
        rows = maps.flatten(1).double()
        mean = rows.mean(0)
        latent = self.squeeze.out_channels
        # The covariance between samples is small; its eigenvectors give the components without one of 12288 × 12288.
        centred = rows - mean
        variance, vectors = torch.linalg.eigh(centred @ centred.T / len(rows))
        vectors, variance = vectors[:, -latent:], variance[-latent:].clamp_min(1e-12)
        self.expand.weight.copy_(centred.T @ vectors / len(rows) ** 0.5)
        self.expand.bias.copy_(mean)
        self.squeeze.weight.mul_(0.1)
        self.squeeze.bias.zero_()

    @torch.no_grad()
    def shrunk(self, images: Tensor, latent: int) -> EdgeNet:
        """Return the copy with ``latent`` numbers in the middle that loses the least on ``images``.

        The loss is the mean square over all map pixels. ``images`` (N, 3, 128, 128) are in the network's value range, N
        well above the latent size. The copy keeps the principal components of the maps of this network, so it is exact
        where they span no more than ``latent`` dimensions.
        """
        codes = self.squeeze(self.eval().encoder(images)).flatten(1).double()
        mean = codes.mean(0)
        # codes = mean + whitened @ root.T: the singular values are then those of the maps, not of an arbitrary basis.
        root = torch.linalg.cholesky(torch.cov(codes.T) + 1e-9 * codes.var(0).mean() * torch.eye(len(mean)))
        components, strength, turn = torch.linalg.svd(self.expand.weight.double() @ root, full_matrices=False)
        to_new = turn[:latent] @ torch.linalg.inv(root)
        network = EdgeNet(latent)
        network.encoder.load_state_dict(self.encoder.state_dict())
        network.squeeze.weight.copy_(torch.einsum("nk,kchw->nchw", to_new, self.squeeze.weight.double()))
        network.squeeze.bias.copy_(to_new @ (self.squeeze.bias.double() - mean))
        network.expand.weight.copy_(components[:, :latent] * strength[:latent])
        network.expand.bias.copy_(self.expand.weight.double() @ mean + self.expand.bias.double())
        return network.eval()
