"""``python -m benchmarks rewrites``: what the rewrites of the export road, and INT8, gain on this machine's CPU.

The plain export, the rewritten one and with --int8 its INT8 form run by turns in one process, so that all meet the same disturbances. INT8 is
calibrated on the pictures of the export's own check, which is all that speed needs; what INT8 costs in accuracy is for 'int8' to say.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from runtime.errors import FaceMeshError
from training.networks import NETWORK_NAMES

if TYPE_CHECKING:
    import onnx
    from torch import nn


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m benchmarks rewrites``."""
    parser = subparsers.add_parser("rewrites", help="plain against rewritten and INT8 export on the CPU", description=__doc__.splitlines()[0])
    parser.add_argument("--arch", choices=NETWORK_NAMES, default="prnet")
    parser.add_argument("--weights", type=Path, help="a checkpoint; without one PRNet gets random weights, which take as long")
    parser.add_argument("--int8", action="store_true", help="the INT8 form for CPUs too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=60, help="of each model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures, with machine and versions")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Export, rewrite, measure, print."""
    check_writable(args.json)
    from export.graphs.rewrite import rewrite
    from export.graphs.to_onnx import network_spec, to_onnx
    from export.graphs.verify import compare, require_live, run_model, verification_images

    network = _network(args.arch, args.weights)
    spec, plain = network_spec(network, args.arch), to_onnx(network, args.arch)
    images = verification_images(spec.input, spec.crop_scale)
    rewritten, _ = rewrite(plain, images, spec.output.name)
    expected, outputs = (run_model(model, images, spec.output.name) for model in (plain, rewritten))
    require_live(expected, spec, args.arch)
    difference = compare(expected, outputs, spec)
    models = {"plain": plain, "rewritten": rewritten}
    if args.int8:
        models["int8"] = int8_form(rewritten, images)
        require_live(run_model(models["int8"], images, spec.output.name), spec, f"{args.arch} in INT8")
    times = dict(zip(models, time_by_turns(list(models.values()), images[:1], args.threads, args.runs), strict=True))
    rows = [("export", "min ms", "median ms", "p90 ms", "MB")]
    for name, taken in times.items():
        figures = (1000 * taken.min(), 1000 * np.median(taken), 1000 * np.quantile(taken, 0.9), models[name].ByteSize() / 1e6)
        rows.append((name, *map(two_digits, figures)))
    print(text_table(rows, 1))
    for name, taken in list(times.items())[1:]:
        by = [statistic(times["plain"]) / statistic(taken) for statistic in (np.median, np.min)]
        size = models[name].ByteSize() / plain.ByteSize()
        print(f"{name}: {by[0]:.2f} times as fast as plain (medians; {by[1]:.2f} by minima), {size:.3f} of its size")
    print(f"outputs of rewritten and plain differ by {difference}")
    if args.json is not None:
        figures = {name: {"times_ms": (1000 * taken).round(3).tolist(), "bytes": models[name].ByteSize()} for name, taken in times.items()}
        ratios = {"min": times["plain"].min() / times["rewritten"].min(), "median": np.median(times["plain"]) / np.median(times["rewritten"])}
        write_json(args.json, {**provenance(), "ratio": ratios, "largest_difference": difference.largest, "threads": args.threads, **figures})


def int8_form(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """``model`` in INT8 for CPUs, with the ranges that ``images`` (N, …) fill."""
    from calibration.precision.graph_view import Graph
    from calibration.precision.placement import calibrated_tensors, quantisable_layers
    from calibration.precision.qdq import to_int8
    from calibration.ranges.collect import collect
    from calibration.ranges.table import CalibrationTable, choose_ranges

    graph = Graph(model)
    crops = [image[None] for image in images]
    histograms = collect(model, calibrated_tensors(graph, "cpu"), crops, len(crops)).histograms
    table = CalibrationTable("", "", len(crops), "minmax", "cpu", (), (), choose_ranges(histograms, "minmax", "cpu"))
    return to_int8(model, quantisable_layers(graph), table)


def time_by_turns(models: list[onnx.ModelProto], image: np.ndarray, threads: int, runs: int) -> list[np.ndarray]:
    """Seconds of each run (runs,) for each model, one picture (1, …) at a time, after three to warm up."""
    from runtime.inference.onnx_runner import open_session

    # The options of `open_session` keep the threads of one session from spinning while the other one runs.
    sessions = [open_session(model.SerializeToString(), threads) for model in models]
    taken = np.zeros((len(models), runs + 3))
    for turn in range(runs + 3):
        for index, session in enumerate(sessions):
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            taken[index, turn] = time.perf_counter() - started
    return list(taken[:, 3:])


def _network(arch: str, weights: Path | None) -> nn.Module:
    if weights is not None:
        from export.checkpoints.checkpoint import load_checkpoint

        return load_checkpoint(arch, weights)
    if arch != "prnet":
        raise FaceMeshError(f"--arch {arch} needs --weights; only PRNet is measured with random ones")
    from benchmarks.latency.live_network import live_prnet

    return live_prnet()
