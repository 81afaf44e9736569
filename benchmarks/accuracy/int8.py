"""``python -m benchmarks int8``: the loss of accuracy in INT8 by method of calibration.

Every layer besides the tail, and for CPUs the stem, is in INT8. Each model is calibrated on training rows of
``--crops`` and measured on ``--labels``, once for each target and method. NME as in ``python -m benchmarks accuracy``:
68 points in 2D, ground-truth boxes, mean over faces.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.latency.arguments import FACE_MODEL_HELP
from benchmarks.records.provenance import check_writable, provenance, text_table, write_json
from calibration.accuracy.judge import LandmarkJudge, shift_px
from calibration.crops import read_crops
from calibration.face_sources import load_faces
from calibration.precision.placement import TARGETS, quantisable_layers
from calibration.quantise import judged_rows, measure_activations
from calibration.ranges.methods import METHODS
from runtime.console.arguments import positive_int
from runtime.models.spec import load_spec


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks int8``."""
    parser = subparsers.add_parser(
        "int8",
        help="error of INT8 by calibration method",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("models", type=Path, nargs="+", metavar="MODEL.onnx", help="FP32 models of 'python -m export onnx'")
    add("--crops", type=Path, required=True, metavar="STEM", help="set to calibrate on: its training rows")
    add("--labels", type=Path, metavar="STEM", help="set to judge by (default: the validation rows of --crops)")
    add("--samples", type=positive_int, default=500, metavar="N", help="crops to calibrate on (default: 500)")
    add("--face-model", type=Path, metavar="FILE.npz", help=FACE_MODEL_HELP)
    add("--json", type=Path, metavar="FILE", help="write the table and where it comes from")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    check_writable(args.json)
    rows = []
    for model in args.models:
        rows += model_rows(model, args.crops, args.labels, args.samples, args.face_model)
    lines = [("model", "target", "method", "FP32 NME %", "INT8 NME %", "change %", "shift px", "file")]
    for row in rows:
        change = 100 * (row["int8_nme"] / row["fp32_nme"] - 1)
        errors = (f"{row['fp32_nme']:.3f}", f"{row['int8_nme']:.3f}", f"{change:+.2f}")
        others = (f"{row['shift_px']:.3f}", f"{row['size']:.3f}")
        lines.append((row["model"], row["target"], row["method"], *errors, *others))
    print(text_table(lines, left=3))
    if args.json:
        write_json(args.json, {**provenance(), "table": rows})


def model_rows(
    path: Path, crops: Path, labels: Path | None, samples: int, face_model: Path | None = None
) -> list[dict[str, Any]]:
    """Measure one model: a row per target and method."""
    from calibration.precision.model_file import check_outputs, load_plain
    from calibration.precision.qdq import to_int8

    # The model in FP32, and the crops for measuring.
    spec = load_spec(path, face_model)
    graph = load_plain(path)
    check_outputs(graph, spec, path)
    faces = load_faces(crops)
    judge = LandmarkJudge(read_crops(judged_rows(faces, labels), spec))
    reference = judge.landmarks(graph.model)

    # INT8 by target and method.
    rows = []
    for target in TARGETS:
        layers = quantisable_layers(graph, target)
        activations = measure_activations(graph, spec, faces, samples, target)
        for method in METHODS:
            quantised = to_int8(activations.graph, layers, activations.table(method))
            landmarks = judge.landmarks(quantised)
            rows.append(
                {
                    "model": spec.name,
                    "sha256": spec.onnx_sha256,
                    "target": target,
                    "method": method,
                    "faces": len(judge),
                    "fp32_nme": judge.nme(reference),
                    "int8_nme": judge.nme(landmarks),
                    "shift_px": shift_px(landmarks, reference),
                    "size": quantised.ByteSize() / graph.model.ByteSize(),
                }
            )
    return rows
