"""Options of ``python -m training fit`` for networks of coefficients."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel
from training.data.dataset import FaceCrops
from training.data.labels import FaceLabels

if TYPE_CHECKING:
    from training.coefficients.objective import CoefficientObjective, LossPlan
    from training.networks.coefficients import CoefficientNetwork

LOSSES_HELP = (
    "weights of coefficients, vertices, offsets, landmarks, consistency2d, consistency3d, cycle and critic, "
    "see docs/training.md; a loss that is not named is off (default: coefficients=1)"
)


def add_coefficient_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser, in a group of their own."""
    group = parser.add_argument_group("networks of coefficients")
    group.add_argument("--losses", metavar="NAME=W,...", help=LOSSES_HELP)
    group.add_argument(
        "--second-stage", type=int, metavar="EPOCHS", help="after so many epochs, go on with --second-losses"
    )
    group.add_argument("--second-losses", metavar="NAME=W,...", help="weights of the second stage")
    group.add_argument(
        "--central-weight",
        type=float,
        metavar="W",
        help="of nose, eyes and mouth in losses of landmarks, contour and brows have 1 (default: 1)",
    )
    group.add_argument(
        "--landmark-noise",
        type=float,
        metavar="D",
        help="mean error of the landmarks in the channel, of the face's size (default: 0.035)",
    )
    group.add_argument(
        "--freeze-trunk", action="store_true", default=None, help="of e2far: leave VGG-16's convolutions as they are"
    )
    group.add_argument(
        "--whitening",
        type=Path,
        metavar="FILE.npz",
        help="mean and std of the numbers (default: those of --start-at, or of the training crops)",
    )


def refuse_coefficient_options(args: argparse.Namespace) -> None:
    """Raise `FaceMeshError` if a network of position maps is given options of this group."""
    names = ("losses", "second_stage", "second_losses", "central_weight", "landmark_noise", "freeze_trunk", "whitening")
    if used := [name for name in names if getattr(args, name) is not None]:
        option = f"--{used[0].replace('_', '-')}"
        raise FaceMeshError(f"{option}: --network {args.network} puts out a position map; leave it out")


def loss_plan(args: argparse.Namespace) -> LossPlan:
    """Return the losses that the options ask for. Raises `FaceMeshError` for options that make no sense."""
    from training.coefficients.losses import parse_losses
    from training.coefficients.objective import LossPlan

    def parsed(option: str, text: str) -> dict[str, float]:
        try:
            return parse_losses(text)
        except ValueError as error:
            raise FaceMeshError(f"{option}: {error}") from None

    if (args.second_stage is None) != (args.second_losses is None):
        raise FaceMeshError("--second-stage and --second-losses belong together; give both or none")
    if args.second_stage is not None and not 0 < args.second_stage < args.epochs:
        raise FaceMeshError(
            f"--second-stage {args.second_stage}: must lie between 1 and --epochs {args.epochs} less 1; change one"
        )
    central = 1.0 if args.central_weight is None else args.central_weight
    if not 0 < central < float("inf"):
        raise FaceMeshError(f"--central-weight must be a number above 0, is {central:g}; 1 weighs all points alike")
    return LossPlan(
        weights=parsed("--losses", args.losses or "coefficients=1"),
        second_weights=None if args.second_losses is None else parsed("--second-losses", args.second_losses),
        second_stage=args.second_stage,
        central_weight=central,
    )


def coefficient_objective(
    args: argparse.Namespace, network: CoefficientNetwork, model: FaceModel, labels: FaceLabels, crops: FaceCrops
) -> CoefficientObjective:
    """Give the network its whitening and first weights; return what it is trained for."""
    from training.coefficients.objective import CoefficientObjective
    from training.coefficients.start import set_whitening
    from training.start import start_network

    plan = loss_plan(args)
    if args.freeze_trunk:
        if not hasattr(network, "trunk_frozen"):
            raise FaceMeshError(f"--freeze-trunk: --network {args.network} has no trunk of its own; leave it out")
        network.trunk_frozen = True
    set_whitening(network, args.start_at, args.whitening, args.run, model, crops)
    objective = CoefficientObjective(network, model, labels, plan, args.label_weights, args.hand_weight)
    start_network(network, args.start_at, args.run, crops)
    return objective
