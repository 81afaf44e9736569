"""Measure the cost of quantising each layer alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.accuracy.judge import LandmarkJudge, shift_px
from calibration.precision.graph_view import Graph
from calibration.ranges.table import CalibrationTable
from runtime.storage.whole_files import whole_file


@dataclass(frozen=True)
class LayerLoss:
    """One layer in INT8, all others in FP32."""

    layer: str
    shift_px: float  # mean distance of the 68 landmarks from those of the FP32 model, px of the crop
    nme_increase: float | None  # relative to FP32, negative by luck; None without labels


def layer_losses(graph: Graph, layers: Sequence[str], table: CalibrationTable, judge: LandmarkJudge) -> list[LayerLoss]:
    """Return one entry per layer, the most sensitive first."""
    from calibration.precision.qdq import insert_qdq
    from runtime.console.progress import progress_bar

    reference = judge.landmarks(graph.model)
    losses = []
    for layer in progress_bar(layers, len(layers), "layer"):
        landmarks = judge.landmarks(insert_qdq(graph, [layer], table))
        increase = judge.loss(landmarks, reference) if judge.labelled else None
        losses.append(LayerLoss(layer, shift_px(landmarks, reference), increase))
    return sorted(losses, key=lambda loss: -loss.shift_px)


def loss_table(losses: Sequence[LayerLoss]) -> str:
    """Return a table as text, one line per layer."""
    width = max(len("layer"), *(len(loss.layer) for loss in losses))
    lines = [
        f"{loss.layer:{width}}  {loss.shift_px:8.4f}  "
        + ("     –" if loss.nme_increase is None else f"{100 * loss.nme_increase:+6.2f}")
        for loss in losses
    ]
    return "\n".join([f"{'layer':{width}}  shift px   NME %", *lines])


def write_losses(losses: Sequence[LayerLoss], table: CalibrationTable, path: Path) -> None:
    """Write the figures as JSON."""
    layers = [dataclasses.asdict(loss) for loss in losses]
    document = {"model_sha256": table.model_sha256, "method": table.method, "layers": layers}
    with whole_file(path) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())
