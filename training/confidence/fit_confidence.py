"""``python -m training fit-confidence``: add the probability of right landmarks to a trained edge network.

Right means an NME of the 68 landmarks below 8 %. A small head on the network's inner numbers learns the network's own
error on crops that are perturbed beyond those of training, and on crops without a face. The map does not change. The
sigmoid is calibrated on validation rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from runtime.console.arguments import not_empty, positive_int
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from runtime.families.uv_topology import load_topology
from runtime.storage.whole_files import file_sha256, whole_file, whole_files
from training.data.face_sets import load_sets
from training.uv.uv_layout import region_weights

if TYPE_CHECKING:
    from training.confidence.reliability import ConfidenceReport
    from training.networks.edge import EdgeNet


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "fit-confidence", help="fit the confidence of a trained edge network", description=__doc__
    )
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="best.pt of a run of the edge network, a file of 'shrink', or its .onnx",
    )
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="as in 'fit'; may be given several times"
    )
    parser.add_argument(
        "--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data"
    )
    parser.add_argument(
        "--samples",
        type=positive_int,
        default=24000,
        help="training crops; a quarter as many validation crops calibrate (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint for 'python -m export onnx'")
    parser.add_argument(
        "--report",
        type=lambda text: Path(not_empty(text)),
        metavar="STEM",
        help="also write the reliability on validation crops as STEM.json and a diagram as STEM.png",
    )
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Measure errors, fit, calibrate, judge, write."""
    _check_outputs(args)
    from training.confidence.error_samples import hard_crops, measure_errors
    from training.confidence.fit_head import calibrate, fit_head
    from training.confidence.reliability import judge_confidence
    from training.networks.folded import load_edge
    from training.uv.targets import PositionMapLoss, PositionMapTargets

    # Network and faces
    network = load_edge(args.weights)
    model, topology = load_face_model(args.face_model or args.data[0].parent / "face_model.npz"), load_topology()
    labels, images = load_sets(args.data, model)
    if labels.is_val.all() or not labels.is_val.any():
        raise FaceMeshError(f"{args.data[0]}: training and validation rows are both needed (is_val in the labels)")
    measures = (
        PositionMapTargets(model, topology, network.output_size),
        PositionMapLoss(region_weights(topology), topology, network.output_size, 1.0),
    )

    # Errors of the network itself. The second set of validation crops judges what the first calibrated.
    training = hard_crops(network, labels, images, np.flatnonzero(~labels.is_val), args.seed)
    batches = -(-args.samples // training.batch_size)
    samples = measure_errors(network, training, *measures, batches)
    validation_rows, held_out = np.flatnonzero(labels.is_val), []
    for seed in (args.seed + 1, args.seed + 2):
        crops = hard_crops(network, labels, images, validation_rows, seed)
        held_out.append(measure_errors(network, crops, *measures, max(1, batches // 8)))

    # Head
    head = network.add_confidence()
    fit_head(head, samples, seed=args.seed)
    calibrate(head, held_out[0])
    report = judge_confidence(head, held_out[1])
    _write(network, report, args)
    print(report)
    print(f"{args.output}: written")


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuse places that cannot be written, and a report without its library, before minutes of work."""
    for option, path in (("-o", args.output), ("--report", args.report)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            problem = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
            raise FaceMeshError(f"{path}: {problem}; create it or choose another place with {option}")
    if args.report is not None:
        import training.confidence.reliability_diagram  # noqa: F401 - exit_code_of names the extra that it needs


def _write(network: EdgeNet, report: ConfidenceReport, args: argparse.Namespace) -> None:
    """Write the checkpoint and, if it is wanted, the report; all of it or nothing."""
    from training.checkpoints import write_checkpoint

    if args.report is None:
        with whole_file(args.output) as checkpoint:
            write_checkpoint(network, checkpoint)
        return
    from training.confidence.reliability_diagram import draw_reliability

    facts = {"weights": args.weights.name, "sha256": file_sha256(args.weights), "seed": args.seed}
    facts["data"] = [path.name for path in args.data]
    text = json.dumps({**facts, **dataclasses.asdict(report)}, indent=1) + "\n"
    paths = _beside(args.report, ".json"), _beside(args.report, ".png"), args.output
    with whole_files(*paths) as (file, picture, checkpoint):
        write_checkpoint(network, checkpoint)
        file.write(text.encode())
        draw_reliability(report, picture)


def _beside(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)
