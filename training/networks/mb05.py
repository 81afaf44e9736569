"""3DDFA_V2's small network (Guo et al., ECCV 2020; MIT licence), a MobileNetV1 of width 0.5."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from training.networks.edge import MobileEncoder
from training.networks.forms import Mb05Form


class Mb05(MobileEncoder, Mb05Form):
    """(B, 3, 120, 120) float32 BGR in (x - 127.5) / 128 -> (B, 62) whitened numbers, 12 + 40 + 10.

    Its names of weights are those of the published ``mb05_120x120.pth`` without ``module.``.
    """

    training_only = ("fc_lm.",)  # an auxiliary head for landmarks

    def __init__(self) -> None:
        super().__init__(residual={})
        self.fc_param = nn.Linear(512, self.count)

    def forward(self, image: Tensor) -> Tensor:
        features = super().forward(image)
        # The mean over all pixels, as an operator that opset 17 has in this form, too.
        return self.fc_param(avg_pool2d(features, features.shape[2:]).flatten(1))
