"""Networks that turn a crop of a face into its UV position map.

All have ``input_size`` S, ``output_size`` M, ``output_scale`` (output × scale = px of the crop), ``crop_scale``,
``colour_order`` and ``value_range`` of the input, and ``forward``: (B, 3, S, S) float32 -> (B, 3, M, M) float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

NETWORK_NAMES = ("edge", "prnet")


def create_network(name: str) -> nn.Module:
    """Return a freshly initialised network by its name, one of NETWORK_NAMES."""
    from training.networks.edge import EdgeNet
    from training.networks.prnet import PRNet

    return {"edge": EdgeNet, "prnet": PRNet}[name]()
