"""``python -m training fit``: train a network of position maps or of face-model coefficients."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel, load_face_model
from runtime.families.uv_topology import load_topology
from runtime.geometry.crop import crop_matrix, longer_side_crop_matrix
from training.coefficients.options import (
    add_coefficient_options,
    coefficient_objective,
    refuse_coefficient_options,
)
from training.data.augment import Augmentation
from training.data.dataset import FaceCrops
from training.data.face_sets import load_sets
from training.data.labels import FaceLabels
from training.networks import NETWORK_NAMES, POSITION_MAP_NETWORKS
from training.schedule import Schedule
from training.uv.uv_layout import region_weights

if TYPE_CHECKING:
    from torch import nn

    from training.loop import Objective

LANDMARK_NOISE = 0.035  # about what the shipped model's landmarks are off on faces that it does not know


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "fit", help="train a network", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--network", choices=NETWORK_NAMES, default="edge", help="to train")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="common stem of .tar and .npz, or a folder in the 300W-LP layout; several sets are joined",
    )
    parser.add_argument(
        "--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data"
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of the run; started again, it goes on from its last checkpoint"
    )
    parser.add_argument(
        "--start-at",
        type=Path,
        help="weights to begin with: best.pt of a run; for edge and its heirs, the .onnx of edge or mb05_120x120.pth; "
        "for mb05 and 2dasl, their authors' checkpoints",
    )
    _add_schedule_options(parser)
    _add_draw_options(parser)
    _add_perturbation_options(parser)
    add_coefficient_options(parser)
    parser.add_argument("--bfloat16", action="store_true", help="convolutions in bfloat16; pays for the full network")
    parser.add_argument("--workers", type=int, default=1, help="processes that make crops")
    parser.add_argument("--seed", type=int, default=0, help="of first weights and draws")
    parser.set_defaults(func=run)


def _add_schedule_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=20, help="of --crops-per-epoch crops each")
    parser.add_argument("--batch-size", type=int, default=16, help="crops of one step")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of AdamW at the start")
    parser.add_argument(
        "--decay", choices=("step", "cosine"), default="step", help="step: halved every --halve-every epochs"
    )
    parser.add_argument("--halve-every", type=int, default=5, help="epochs, with --decay step")
    parser.add_argument("--weight-decay", type=float, default=0.0, help="of AdamW")
    parser.add_argument(
        "--average-decay", type=float, default=0.999, help="of the moving average of the weights, which is what is kept"
    )
    parser.add_argument("--landmark-weight", type=float, default=1.0, help="weight of the 68 landmarks beside the map")


def _add_draw_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on sources: draws, weights in the loss, validation."""
    parser.add_argument(
        "--source-weights",
        type=parse_source_weights,
        default={},
        metavar="NAME=W,...",
        help="how often a source is drawn; 1 if not named",
    )
    parser.add_argument(
        "--label-weights",
        type=parse_source_weights,
        default={},
        metavar="NAME=W,...",
        help="weight of a source's labels in the loss; 1 if not named",
    )
    parser.add_argument(
        "--hand-weight",
        type=float,
        default=0.0,
        help="weight of visible points by hand in the loss, if the data have them",
    )
    parser.add_argument("--crops-per-epoch", type=int, help="default: number of training rows")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0, help="between checkpoints within an epoch")
    parser.add_argument(
        "--validate-on",
        type=lambda text: text.split(","),
        metavar="NAME,...",
        help="sources of validation rows; default: all",
    )


def _add_perturbation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rotation", type=float, default=45.0, help="degrees")
    parser.add_argument("--translation", type=float, default=0.10, help="of the box size")
    parser.add_argument("--scale", type=float, nargs=2, default=(0.9, 1.2), metavar=("LOW", "HIGH"), help="of the crop")
    colour_help = "factor of each channel"
    parser.add_argument("--colour", type=float, nargs=2, default=(0.6, 1.4), metavar=("LOW", "HIGH"), help=colour_help)
    parser.add_argument("--occlusion", type=float, default=0.4, help="probability")
    parser.add_argument(
        "--degradation", type=float, default=0.3, help="probability of blur, low resolution, noise or JPEG artefacts"
    )
    parser.add_argument("--any-roll", type=float, default=0.0, help="probability of a rotation from the whole circle")
    parser.add_argument("--cut", type=float, default=0.0, help="probability of a picture that ends near the face")


def parse_source_weights(text: str) -> dict[str, float]:
    """Return the dictionary of a text like ``aflw=0.5,helen=2``."""
    weights = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        try:
            weights[name] = float(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected NAME=WEIGHT, got {item!r}") from None
    return weights


def run(args: argparse.Namespace) -> None:
    """Put data, network and loop together."""
    from training.loop import Trainer
    from training.start import create_seeded

    # Data
    model = load_face_model(args.face_model or args.data[0].parent / "face_model.npz")
    labels, images = load_sets(args.data, model)
    check_sources(labels, "--source-weights", args.source_weights)
    check_sources(labels, "--label-weights", args.label_weights)
    check_sources(labels, "--validate-on", args.validate_on or ())
    network = create_seeded(args.network, args.seed)
    training, validation = training_crops(args, model, labels, images, network)

    # Network, loss and loop
    make = map_objective if args.network in POSITION_MAP_NETWORKS else coefficient_objective
    objective = make(args, network, model, labels, training)
    schedule = Schedule(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Schedule)})
    trainer = Trainer(network, objective, labels, schedule, args.run)
    if trainer.resume():
        batch = f", batch {trainer.batch}" if trainer.batch else ""
        print(f"{args.run}: going on after epoch {trainer.epoch}{batch}")
    trainer.fit(training, validation, args.workers)


def map_objective(
    args: argparse.Namespace, network: nn.Module, model: FaceModel, labels: FaceLabels, crops: FaceCrops
) -> Objective:
    """Give a network of position maps its first weights; return what it is trained for."""
    from training.start import start_network
    from training.uv.map_objective import MapObjective
    from training.uv.targets import PositionMapLoss, PositionMapTargets

    refuse_coefficient_options(args)
    topology = load_topology()
    targets = PositionMapTargets(model, topology, network.output_size)
    start_network(network, args.start_at, args.run, crops, targets)
    loss = PositionMapLoss(region_weights(topology), topology, network.output_size, args.landmark_weight)
    return MapObjective(network, targets, loss, labels, args.label_weights, args.hand_weight)


def training_crops(
    args: argparse.Namespace,
    model: FaceModel,
    labels: FaceLabels,
    images: Sequence[NDArray[np.uint8]],
    network: nn.Module,
) -> tuple[FaceCrops, FaceCrops]:
    """Return perturbed crops of the training rows and plain ones of the validation rows."""
    from training.uv.targets import lowest_z

    # Rows
    training_rows = np.flatnonzero(~labels.is_val)
    wanted = np.isin(labels.source, args.validate_on) if args.validate_on else np.ones(len(labels), bool)
    validation_rows = np.flatnonzero(labels.is_val & wanted)
    if not len(training_rows) or not len(validation_rows):
        counts = f"{len(training_rows)} training and {len(validation_rows)} validation rows"
        raise FaceMeshError(f"{args.data[0]}: {counts}; both are needed (is_val in the labels)")
    # Crops
    augmentation = Augmentation(
        rotation_deg=args.rotation,
        translation=args.translation,
        scale=tuple(args.scale),
        colour=tuple(args.colour),
        occlusion=args.occlusion,
        degradation=args.degradation,
        any_roll=args.any_roll,
        cut=args.cut,
    )
    faces = (labels, images, lowest_z(model, labels))
    crop = (network.input_size, network.crop_scale, args.batch_size)
    weights = np.array([args.source_weights.get(source, 1.0) for source in labels.source[training_rows].tolist()])
    rule = crop_matrix if args.network in POSITION_MAP_NETWORKS else longer_side_crop_matrix
    noise = LANDMARK_NOISE if args.landmark_noise is None else args.landmark_noise
    draws = (augmentation, weights, args.seed, args.crops_per_epoch)
    training = FaceCrops(*faces, training_rows, *crop, *draws, rule=rule, landmark_noise=noise)
    return training, FaceCrops(*faces, validation_rows, *crop, rule=rule, landmark_noise=noise)


def check_sources(labels: FaceLabels, option: str, names: Iterable[str]) -> None:
    """Refuse names of sources that are not in the labels."""
    if unknown := sorted(set(names) - set(labels.source.tolist())):
        known = ", ".join(np.unique(labels.source))
        raise FaceMeshError(f"{option}: no source {', '.join(unknown)} in the labels; there are {known}")
