"""``python -m benchmarks rewrites``: measure the gain by the export's rewrites, and by INT8, on this machine's CPU.

The plain export, the rewritten one and with --int8 its INT8 form run by turns in one process, so that all meet the same
disturbances. INT8 is calibrated on the pictures of the export's own check, which is all that speed needs; 'int8'
measures its accuracy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from runtime.console.arguments import positive_int
from runtime.models.spec import with_face_model
from training.networks import NETWORK_NAMES

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.graphs.verify import Difference

UNCOUNTED = 3  # runs of each model, to warm up


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks rewrites``."""
    parser = subparsers.add_parser(
        "rewrites",
        help="plain against rewritten and INT8 export on the CPU",
        description=__doc__.splitlines()[0],
    )
    add = parser.add_argument
    add("--arch", choices=NETWORK_NAMES, default="prnet", help="the network (default: prnet)")
    add("--weights", type=Path, help="a checkpoint (default: random weights, which take as long)")
    whitening_help = "mean and std of a coefficient network's numbers (default: 3DDFA's file beside the weights)"
    add("--whitening", type=Path, metavar="FILE", help=whitening_help)
    face_model_help = "of a network of coefficients (default: face_model.npz here or beside the weights)"
    add("--face-model", type=Path, metavar="FILE.npz", help=face_model_help)
    add("--int8", action="store_true", help="the INT8 form for CPUs too")
    add("--threads", type=positive_int, default=2, help="of ONNX Runtime (default: 2)")
    add("--runs", type=positive_int, default=60, help="of each model (default: 60)")
    add("--json", type=Path, metavar="FILE", help="the figures, with machine and versions")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Export, rewrite, measure, print and write."""
    check_writable(args.json)
    models, difference, image = _make_models(args)
    taken = time_by_turns(list(models.values()), image, args.threads, args.runs)
    times = dict(zip(models, taken, strict=True))
    sizes = {name: model.ByteSize() for name, model in models.items()}
    print(format_times(times, sizes))
    print(f"outputs of rewritten and plain differ by {difference}")
    if args.json is not None:
        figures = {
            name: {"times_ms": (1000 * seconds).round(3).tolist(), "bytes": sizes[name]}
            for name, seconds in times.items()
        }
        ratios = {
            "min": times["plain"].min() / times["rewritten"].min(),
            "median": np.median(times["plain"]) / np.median(times["rewritten"]),
        }
        facts = {"ratio": ratios, "largest_difference": difference.largest, "threads": args.threads}
        write_json(args.json, {**provenance(), **facts, **figures})


def _make_models(
    args: argparse.Namespace,
) -> tuple[dict[str, onnx.ModelProto], Difference, NDArray[np.float32]]:
    """Return the models by name, the difference of the rewritten to the plain one, and a picture (1, …) for both."""
    from export.graphs.network_spec import network_spec
    from export.graphs.rewrite import rewrite
    from export.graphs.to_onnx import to_onnx
    from export.graphs.verify import compare, require_live, run_model, run_outputs, verification_images

    # Export, and rewrite.
    network = _network(args)
    spec = network_spec(network, args.arch)
    spec = with_face_model(spec, args.weights or Path(args.arch), args.face_model)
    plain = to_onnx(network, args.arch)
    images = verification_images(spec.input, spec.crop_scale)
    outputs = run_outputs(plain, images, spec.outputs)
    expected = outputs[spec.output.name]
    require_live(expected, spec, args.arch)
    rewritten, _ = rewrite(plain, images, outputs)

    # Check that the others work.
    difference = compare(expected, run_model(rewritten, images, spec.output.name), spec)
    models = {"plain": plain, "rewritten": rewritten}
    if args.int8:
        models["int8"] = int8_form(rewritten, images)
        require_live(run_model(models["int8"], images, spec.output.name), spec, f"{args.arch} in INT8")
    return models, difference, images[:1]


def int8_form(model: onnx.ModelProto, images: NDArray[np.float32]) -> onnx.ModelProto:
    """Convert ``model`` to INT8 for CPUs, with the ranges that ``images`` (N, …) fill."""
    from calibration.precision.graph_view import Graph
    from calibration.precision.placement import calibrated_tensors, quantisable_layers
    from calibration.precision.qdq import to_int8
    from calibration.ranges.collect import collect
    from calibration.ranges.table import CalibrationTable, choose_ranges

    graph = Graph(model)
    crops = [image[None] for image in images]
    histograms = collect(model, calibrated_tensors(graph, "cpu"), crops, len(crops)).histograms
    ranges = choose_ranges(histograms, "minmax", "cpu")
    table = CalibrationTable("", "", len(crops), "minmax", "cpu", (), (), ranges)
    return to_int8(graph, quantisable_layers(graph, "cpu"), table)


def time_by_turns(
    models: list[onnx.ModelProto], image: NDArray[np.float32], threads: int, runs: int
) -> list[NDArray[np.float64]]:
    """Time the models by turns on one picture (1, …); returns seconds (runs,) for each."""
    from runtime.inference.onnx_runner import open_session

    # The options of `open_session` keep the threads of one session from spinning while the other one runs.
    sessions = [open_session(model.SerializeToString(), threads) for model in models]
    taken = np.zeros((len(models), runs + UNCOUNTED))
    for turn in range(runs + UNCOUNTED):
        for index, session in enumerate(sessions):
            started = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            taken[index, turn] = time.perf_counter() - started
    return list(taken[:, UNCOUNTED:])


def format_times(times: Mapping[str, NDArray[np.float64]], sizes: Mapping[str, int]) -> str:
    """Return the table of seconds (runs,) and bytes by model, and a line for each that compares it with the plain."""
    rows = [("export", "min ms", "median ms", "p90 ms", "MB")]
    for name, taken in times.items():
        seconds = (taken.min(), np.median(taken), np.quantile(taken, 0.9))
        rows.append((name, *(two_digits(1000 * value) for value in seconds), two_digits(sizes[name] / 1e6)))
    lines = [text_table(rows, left=1)]
    plain = times["plain"]
    for name in list(times)[1:]:
        medians = np.median(plain) / np.median(times[name])
        minima = plain.min() / times[name].min()
        size = f"{sizes[name] / sizes['plain']:.3f} of its size"
        lines.append(f"{name}: {medians:.2f} times as fast as plain (medians; {minima:.2f} by minima), {size}")
    return "\n".join(lines)


def _network(args: argparse.Namespace) -> nn.Module:
    if args.weights is not None:
        from export.checkpoints.checkpoint import load_checkpoint
        from export.checkpoints.whitening import give_whitening

        network = load_checkpoint(args.arch, args.weights)
        give_whitening(network, args.arch, args.weights, args.whitening)
        return network
    from training.networks.untrained import untrained_network

    return untrained_network(args.arch)
