"""``python -m training shrink``: a smaller copy of a trained network, without training it again.

--latent is for the edge network. It learns with a generous latent vector; its position maps use fewer dimensions. The
rest costs memory traffic, and that is most of the time of a small network on a CPU.

--rank is for UH-E2FAR (e2far), whose fully connected layers hold 113 of its 135 million numbers: each becomes two, with
so many numbers between. The directions that stay are those that matter on pictures of --data, or without --data those
of the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from training.data.labels import load_labels, read_images


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "shrink",
        help="make a trained network smaller",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", type=Path, required=True, help="best.pt or last.pt of a run of edge or e2far")
    parser.add_argument("--data", type=Path, help="common stem of .tar and .npz, or a folder in the 300W-LP layout")
    parser.add_argument(
        "--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data"
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--latent", type=positive_int, metavar="N", help="of edge: numbers that stay")
    size.add_argument("--rank", type=positive_int, metavar="N", help="of e2far: numbers within each large layer")
    samples_help = "training crops, perturbed as in training, that decide what stays (default: %(default)s)"
    parser.add_argument("--samples", type=positive_int, default=2048, metavar="N", help=samples_help)
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint for 'python -m export onnx'")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Shrink, compare on crops that were not used for it, write."""
    from training.compression import shrink_checkpoint

    if args.rank is not None:
        _reduce_rank(args)
        return
    if args.data is None:
        raise FaceMeshError("--latent: the edge network is shrunk by what matters on pictures; give --data")
    labels = load_labels(args.data, load_face_model(args.face_model or args.data.parent / "face_model.npz"))
    images = read_images(args.data, labels)
    before, mean_px, max_px = shrink_checkpoint(args.weights, labels, images, args.latent, args.samples, args.output)
    shift = f"the points of the map move by {mean_px:.4f} px of the crop, at most {max_px:.3f}"
    print(f"{args.output}: latent {before} -> {args.latent}; {shift}")


def _reduce_rank(args: argparse.Namespace) -> None:
    from training.compression import reduce_checkpoint

    faces = None
    if args.data is not None:
        model = load_face_model(args.face_model or args.data.parent / "face_model.npz")
        labels = load_labels(args.data, model)
        faces = (model, labels, read_images(args.data, labels))
    elif args.face_model is not None:
        raise FaceMeshError(f"--face-model {args.face_model}: nothing is measured without --data; leave it out")
    result = reduce_checkpoint(args.weights, args.rank, args.samples, faces, args.output)
    what = "the squares of its weights" if faces is None else "the variance of its outputs"
    for name, share in result.lost.items():
        print(f"{name}: loses {100 * share:.2f} % of {what}")
    before, after = (count / 1e6 for count in result.weights)
    print(f"{args.output}: rank {args.rank}, {before:.1f} -> {after:.1f} million weights{result.shift_text()}")
