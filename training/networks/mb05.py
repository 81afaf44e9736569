"""3DDFA_V2's small network (Guo et al., ECCV 2020; MIT licence) and its published weights."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from runtime.errors import FaceMeshError
from training.checkpoints import read_checkpoint
from training.networks.edge import MobileEncoder


class Mb05(MobileEncoder):
    """(B, 3, 120, 120) float32 BGR in (x - 127.5) / 128 -> (B, 62) normalised parameters."""

    def __init__(self) -> None:
        super().__init__(residual={})
        self.fc_param = nn.Linear(512, 62)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc_param(super().forward(image).mean((2, 3)))


def load_mb05(path: Path) -> Mb05:
    """Return the network with its published weights, but for the auxiliary landmark head, unused at inference.

    Raises `FaceMeshError` for a missing or damaged file and for weights of another network.
    """
    state = read_checkpoint(path).get("state_dict", {})
    network = Mb05().eval()
    try:
        kept = {name: value for name, value in state.items() if not name.startswith("module.fc_lm.")}
        network.load_state_dict({name.removeprefix("module."): value for name, value in kept.items()})
    except (AttributeError, RuntimeError):
        raise FaceMeshError(
            f"{path}: these are not the weights of 3DDFA_V2's MobileNet of width 0.5; give mb05_120x120.pth"
        ) from None
    return network
