"""Jitter over lag, and a blink over time, as a picture. Home of matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.films.scenes import BLINK_EVERY, FPS, SETTLE
from runtime.storage.whole_files import whole_file
from runtime.tracking.options import Smoothing

matplotlib.use("Agg")

MARKERS = "osD^vP*X"
SHOWN = 20  # frames of the blink


def draw_jitter(result: dict[str, Any], picture: Path) -> None:
    """Draw the result of `benchmarks.films.jitter.measure_jitter` to a PNG."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5), layout="constrained")
    names = [row["method"] for row in result["methods"]]
    colours = dict(zip(names, pyplot.get_cmap("tab10").colors, strict=False))
    _draw_curves(left, result["curves"])
    # Every other name stands below its mark: some marks lie side by side.
    for number, (row, marker) in enumerate(zip(result["methods"], MARKERS, strict=False)):
        left.plot(row["lag"], row["jitter"], marker, color=colours[row["method"]], markersize=8)
        left.annotate(
            row["method"],
            (row["lag"], row["jitter"]),
            (6, -11 if number % 2 else 4),
            textcoords="offset points",
            size=8,
        )
    left.set(xlabel="lag in motion, mean of turn and slide [frames]", ylabel="jitter of a still face [% of the face]")
    left.set_yscale("log")
    left.set_xlim(right=max(1.5, 0.35 + max(row["lag"] for row in result["methods"])))
    left.grid(alpha=0.3, which="both")
    _draw_blink(right, result["blink"], names, colours)
    with whole_file(picture) as file:
        figure.savefig(file, dpi=110, format="png")
    pyplot.close(figure)


def _draw_curves(axes: Axes, curves: list[dict[str, Any]]) -> None:
    """Draw the settings with the default's cutoff of the speed, a line per beta."""
    chosen = [point for point in curves if point["speed_cutoff_hz"] == Smoothing().points.speed_cutoff_hz]
    betas = sorted({point["beta"] for point in chosen})
    for beta, shade in zip(betas, np.linspace(0.75, 0.25, len(betas)), strict=True):
        line = sorted((point for point in chosen if point["beta"] == beta), key=lambda point: point["cutoff_hz"])
        label = f"our filter, beta {beta:g}, cutoff {line[0]['cutoff_hz']:g} to {line[-1]['cutoff_hz']:g} Hz"
        lags, jitters = [point["lag"] for point in line], [point["jitter"] for point in line]
        axes.plot(lags, jitters, ".-", color=str(shade), linewidth=1, label=label)
    axes.legend(fontsize=7)


def _draw_blink(axes: Axes, blink: dict[str, Any], names: list[str], colours: dict[str, Any]) -> None:
    """Draw the mean blink, relative to the opening before."""
    starts = range(SETTLE + 5, len(blink["closing"]) - SHOWN, BLINK_EVERY)
    times = np.arange(-4, SHOWN - 4) / FPS

    def mean(values: list[float]) -> np.ndarray:
        return np.mean([np.array(values)[start - 4 : start - 4 + SHOWN] for start in starts], axis=0)

    axes.plot(times, 1 - mean(blink["closing"]), "k--", linewidth=1, label="the picture's lids")
    for name in names:
        opening = mean(blink[name])
        axes.plot(times, opening / opening[:4].mean(), color=colours[name], linewidth=1.4, label=name)
    axes.set(xlabel="time [s]", ylabel="opening of the eyes, relative to before")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
