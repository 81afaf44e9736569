"""A soak as a picture. Home of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib import pyplot

from runtime.storage.whole_files import whole_file

if TYPE_CHECKING:
    from benchmarks.latency.soak_trends import Line

matplotlib.use("Agg")

ROWS = (
    ("latency [ms]", (("p50_ms", "median"), ("p99_ms", "p99"))),
    ("memory [MB]", (("memory_mb", None),)),
    ("hottest [°C]", (("temperature_c", None),)),
    ("power [W]", (("power_w", None),)),
)


def draw_soak(lines: Sequence[Line], picture: Path) -> None:
    """Draw latency, memory, temperature and power over minutes, as far as known, to a PNG."""
    rows = [(label, names) for label, names in ROWS if getattr(lines[-1], names[0][0]) is not None]
    size = (9, 2.2 * len(rows))
    figure, all_axes = pyplot.subplots(len(rows), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
    # One plot per quantity.
    minutes = [line.time_s / 60 for line in lines]
    for axes, (label, names) in zip(all_axes[:, 0], rows, strict=True):
        for name, legend in names:
            axes.plot(minutes, [getattr(line, name) for line in lines], label=legend, linewidth=1)
        axes.set(ylabel=label)
        axes.grid(alpha=0.3)
        if names[0][1]:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
            axes.legend(loc="upper right")
    all_axes[-1, 0].set(xlabel="minutes")
    with whole_file(picture) as file:
        figure.savefig(file, dpi=120, format="png")
    pyplot.close(figure)
