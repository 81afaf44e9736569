"""The sensitivity of layers as a picture. Home of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib import pyplot

from calibration.accuracy.sensitivity import LayerLoss
from runtime.storage.whole_files import whole_file

matplotlib.use("Agg")


def draw_losses(losses: Sequence[LayerLoss], picture: Path) -> None:
    """Draw a bar per layer, the most sensitive at the top, and write it as a PNG."""
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.18 * len(losses)), layout="constrained")
    axes.barh([loss.layer for loss in losses], [loss.shift_px for loss in losses])
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=6)
    axes.margins(y=0.01)
    axes.set(xlabel="shift of the 68 landmarks with this layer alone in INT8 [px of the crop]")
    axes.grid(axis="x", alpha=0.3)
    with whole_file(picture) as file:
        figure.savefig(file, dpi=120, format="png")
    pyplot.close(figure)
