"""``python -m training shrink``: fewer numbers in the middle of a trained edge network, without training it again.

A network learns with a generous latent vector; its position maps use fewer dimensions. The rest costs memory traffic,
and that is most of the time of a small network on a CPU.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.families.face_model import load_face_model
from training.data.labels import load_labels, read_images


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("shrink", help="make a trained edge network smaller", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="best.pt or last.pt of a run of the edge network")
    parser.add_argument(
        "--data", type=Path, required=True, help="common stem of .tar and .npz, or a folder in the 300W-LP layout"
    )
    parser.add_argument(
        "--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data"
    )
    parser.add_argument("--latent", type=int, required=True, help="numbers that stay")
    parser.add_argument(
        "--samples",
        type=int,
        default=2048,
        help="training crops, perturbed as in training, on which the maps are compared",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint for 'python -m export onnx'")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Shrink, compare on crops that were not used for it, write."""
    from training.compression import shrink_checkpoint

    labels = load_labels(args.data, load_face_model(args.face_model or args.data.parent / "face_model.npz"))
    images = read_images(args.data, labels)
    before, mean_px, max_px = shrink_checkpoint(args.weights, labels, images, args.latent, args.samples, args.output)
    shift = f"the points of the map move by {mean_px:.4f} px of the crop, at most {max_px:.3f}"
    print(f"{args.output}: latent {before} -> {args.latent}; {shift}")
