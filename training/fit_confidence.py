"""``python -m training fit-confidence``: add the probability of right landmarks to a trained edge network.

Right means an NME of the 68 landmarks below 8 %. A small head on the encoder's features learns the network's own error
on crops that are perturbed beyond those of training, and on crops without a face. The map does not change. The sigmoid
is calibrated on validation rows.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from runtime.families.uv_topology import load_topology
from training.data.face_sets import load_sets
from training.uv.uv_layout import region_weights


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
        help="training crops; a quarter as many validation crops calibrate",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint for 'python -m export onnx'")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Measure errors, fit, calibrate, judge, write."""
    from training import confidence
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
    training = confidence.hard_crops(network, labels, images, np.flatnonzero(~labels.is_val), args.seed)
    batches = -(-args.samples // training.batch_size)
    samples = confidence.measure_errors(network, training, *measures, batches)
    validation_rows, held_out = np.flatnonzero(labels.is_val), []
    for seed in (args.seed + 1, args.seed + 2):
        crops = confidence.hard_crops(network, labels, images, validation_rows, seed)
        held_out.append(confidence.measure_errors(network, crops, *measures, max(1, batches // 8)))

    # Head
    head = network.add_confidence()
    confidence.fit_head(head, samples, seed=args.seed)
    confidence.calibrate(head, held_out[0])
    report = confidence.judge_confidence(head, held_out[1])
    confidence.save_network(network, args.output)
    print("  ".join(f"{name} {value:.3f}" for name, value in dataclasses.asdict(report).items()))
    print(f"{args.output}: written")
