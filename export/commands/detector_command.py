"""``python -m export detector``: YuNet's file of OpenCV's model zoo as the one that ONNX Runtime runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.models.shipped import YUNET


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``detector`` and its arguments."""
    parser = subparsers.add_parser(
        "detector", help="rewrite YuNet, the face detector, for ONNX Runtime", description=__doc__
    )
    parser.add_argument(
        "source", type=Path, nargs="?", default=YUNET, metavar="YUNET.onnx", help="default: the shipped file"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help="the file to write")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Rewrite and write."""
    from calibration.precision.model_file import read_onnx, sound_model
    from export.graphs.yunet import rewrite_yunet
    from runtime.storage.whole_files import whole_file

    if args.output.suffix != ".onnx" or not args.output.absolute().parent.is_dir():
        problem = "the detector must become an .onnx in a folder that exists"
        raise FaceMeshError(f"{args.output}: {problem}; choose another name with -o")
    _, source = read_onnx(args.source)
    with sound_model(args.source):
        model = rewrite_yunet(source)
    with whole_file(args.output) as file:
        file.write(model.SerializeToString(deterministic=True))
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")
