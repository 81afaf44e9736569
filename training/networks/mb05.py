"""3DDFA_V2's small network (Guo et al., ECCV 2020; MIT licence) and its published weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from runtime.errors import FaceMeshError
from training.networks.edge import MobileEncoder


class Mb05(MobileEncoder):
    """(B, 3, 120, 120) float32 BGR in (x - 127.5) / 128 -> (B, 62) normalised parameters."""

    def __init__(self) -> None:
        super().__init__(residual={})
        self.fc_param = nn.Linear(512, 62)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc_param(super().forward(image).mean((2, 3)))


def load_mb05(path: Path) -> Mb05:
    """The published weights; its auxiliary landmark head is left out, as it is at inference there."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except FileNotFoundError:
        raise FaceMeshError(f"{path}: no such file; give 3DDFA_V2's mb05_120x120.pth") from None
    except Exception as error:  # what torch.load raises for damaged files has no common base
        raise FaceMeshError(f"{path}: cannot be read as 3DDFA_V2's weights ({str(error).splitlines()[0]}); copy the file again") from None
    state = {name.removeprefix("module."): value for name, value in state.items() if not name.startswith("module.fc_lm.")}
    network = Mb05().eval()
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise FaceMeshError(f"{path}: these are not the weights of 3DDFA_V2's MobileNet of width 0.5; give mb05_120x120.pth") from None
    return network
