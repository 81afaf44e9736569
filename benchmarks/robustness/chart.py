"""Robustness as a picture. Home of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.robustness.conditions import CLEAN, KINDS, Kind
from runtime.storage.whole_files import whole_file

matplotlib.use("Agg")

COLUMNS = 4
HIGHEST_NME = 30.0  # %, of the axis; larger errors lie on its upper end
COLOURS = {"detected": "tab:red", "ground-truth": "tab:blue"}


def draw_robustness(rows: Sequence[dict[str, Any]], title: str, picture: Path) -> None:
    """Draw error, missed faces and confidence of `scores.condition_rows` by level to a PNG, one plot per kind."""
    shown = [kind for kind in KINDS if kind is not CLEAN and any(row["kind"] == kind.name for row in rows)]
    lines = max(1, -(-len(shown) // COLUMNS))
    figure, all_axes = pyplot.subplots(
        lines, COLUMNS, figsize=(3.4 * COLUMNS, 2.6 * lines + 0.8), squeeze=False, layout="constrained"
    )
    for axes, kind in zip(all_axes.flat, shown, strict=False):
        _draw_kind(axes, kind, rows)
    for axes in all_axes.flat[len(shown) :]:
        axes.set_axis_off()
    handles = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.suptitle(title)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles) or 1, frameon=False)
    with whole_file(picture) as file:
        figure.savefig(file, dpi=110, format="png")
    pyplot.close(figure)


def _draw_kind(axes: Axes, kind: Kind, rows: Sequence[dict[str, Any]]) -> None:
    """Draw one kind over its levels, with the clean faces where they belong."""
    shares = axes.twinx()
    places = range(len(kind.levels) + 1)
    for boxes, colour in COLOURS.items():
        mine = [row for row in rows if row["boxes"] == boxes and row["kind"] == kind.name]
        if not mine:
            continue
        mine[kind.clean_place : kind.clean_place] = [
            row for row in rows if row["boxes"] == boxes and row["kind"] == CLEAN.name
        ]
        errors = [min(row["nme"], HIGHEST_NME) for row in mine]
        axes.plot(places, errors, "o-", color=colour, markersize=3, linewidth=1.2, label=f"NME, {boxes} boxes")
        confidence = [row["confidence"] for row in mine]
        if np.isfinite(confidence).any():
            shares.plot(places, confidence, ":", color=colour, linewidth=1.5, label=f"confidence, {boxes} boxes")
        if boxes == "detected":
            missed = [1 - row["found"] / row["faces"] for row in mine]
            shares.bar(places, missed, color="0.85", width=0.7, label="share of faces missed")
    labels = [f"{level:g}" for level in kind.levels]
    labels.insert(kind.clean_place, "clean")
    axes.set_title(f"{kind.name}{f' [{kind.unit.strip()}]' if kind.unit else ''}", size=10)
    axes.set(ylim=(0, HIGHEST_NME), xticks=places, xticklabels=labels)
    axes.tick_params(labelsize=7, axis="y")
    axes.tick_params(labelsize=7 if len(labels) < 10 else 6, axis="x")
    axes.grid(alpha=0.3, axis="y")
    shares.set_ylim(0, 1)
    shares.tick_params(labelsize=7)
    # The lines of errors stand in front of the bars.
    axes.set_zorder(shares.get_zorder() + 1)
    axes.patch.set_visible(False)
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("NME [%]", size=8)
