"""Networks that turn a crop of a face into its UV position map, or into coefficients of a face model.

All have ``input_size`` S, ``crop_scale``, ``colour_order`` and ``value_range`` of the input. Those of a position map
have ``output_size`` M, ``output_scale`` (output × scale = px of the crop) and ``forward``: (B, 3, S, S) float32 ->
(B, 3, M, M) float32. Those of coefficients are `training.networks.coefficients.CoefficientNetwork`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

POSITION_MAP_NETWORKS = ("edge", "prnet")
NETWORK_NAMES = (*POSITION_MAP_NETWORKS, "mb05", "2dasl", "2dasl-quarter", "edge-coefficients", "e2far")


def create_network(name: str) -> nn.Module:
    """Return a freshly initialised network by its name, one of NETWORK_NAMES."""
    from training.networks.e2far import E2far
    from training.networks.edge import EdgeNet
    from training.networks.edge_coefficients import EdgeCoefficients
    from training.networks.mb05 import Mb05
    from training.networks.prnet import PRNet
    from training.networks.two_dasl import QuarterTwoDASL, TwoDASL

    kinds = {"edge": EdgeNet, "prnet": PRNet, "mb05": Mb05, "2dasl": TwoDASL, "2dasl-quarter": QuarterTwoDASL}
    return (kinds | {"edge-coefficients": EdgeCoefficients, "e2far": E2far})[name]()
