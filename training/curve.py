"""The learning curve as a picture. Home of matplotlib."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib
from matplotlib import pyplot

from runtime.storage.whole_files import whole_file

matplotlib.use("Agg")


def draw_curve(log: Path, picture: Path) -> None:
    """Draw validation NME over faces seen, from the CSV log of a run to a PNG."""
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    faces = [float(row["samples"]) for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name in ("balanced", "yaw_0_30", "yaw_30_60", "yaw_60_180"):
        axes.plot(
            faces,
            [float(row[name]) for row in rows],
            label=name.replace("_", " "),
            linewidth=2 if name == "balanced" else 1,
        )
    axes.set(xlabel="faces seen", ylabel="NME of 68 landmarks on validation rows [%]")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole_file(picture) as file:
        figure.savefig(file, dpi=120, format="png")
    pyplot.close(figure)
