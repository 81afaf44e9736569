"""The reliability of a confidence as a picture. Home of matplotlib."""

from __future__ import annotations

from typing import BinaryIO

import matplotlib
from matplotlib import pyplot

from training.confidence.reliability import CLASSES, ConfidenceReport

matplotlib.use("Agg")


def draw_reliability(report: ConfidenceReport, file: BinaryIO) -> None:
    """Draw the share of good crops over the confidence, and below it how many crops have which; write a PNG."""
    figure, (above, below) = pyplot.subplots(
        2, figsize=(5, 6.4), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    filled = [entry for entry in report.classes if entry.crops]
    above.plot([0, 1], [0, 1], color="0.7", label="calibrated")
    above.plot([entry.confidence for entry in filled], [entry.good for entry in filled], "o-", label="measured")
    above.set(ylabel="share of crops with an NME below 8 %", xlim=(0, 1), ylim=(0, 1))
    above.set_title(f"{report.crops} crops: calibration error {report.calibration:.3f}, AUC {report.auc:.3f}", size=10)
    above.legend()
    left = [number / CLASSES for number in range(CLASSES)]
    faces = [entry.crops - entry.no_face for entry in report.classes]
    below.bar(left, faces, 1 / CLASSES, align="edge", label="face", edgecolor="white")
    below.bar(
        left,
        [entry.no_face for entry in report.classes],
        1 / CLASSES,
        bottom=faces,
        align="edge",
        label="no face",
        edgecolor="white",
    )
    below.set(xlabel="confidence", ylabel="crops")
    below.legend()
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(file, dpi=120, format="png")
    pyplot.close(figure)
