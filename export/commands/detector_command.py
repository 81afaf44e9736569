"""``python -m export detector``: YuNet's file of OpenCV's model zoo as the one that ONNX Runtime runs, or for engines.

rewrite_yunet                                             any size, for the CPU
rewrite_yunet ─ fixed_yunet ─ (to_fp16 | quantise)        one size and a spec, for 'python -m export engine'
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.options import add_face_arguments
from calibration.ranges.methods import METHODS
from runtime.console.arguments import positive_int, share
from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from runtime.models.detector_spec import MOST_SIDE, STRIDES, DetectorInput, DetectorSpec
from runtime.models.shipped import YUNET
from runtime.storage.whole_files import require_writable

if TYPE_CHECKING:
    import onnx

NAME = "yunet"
JUDGING_ARGUMENTS = ("labels", "max_loss")  # of FP16, too
INT8_ARGUMENTS = ("crops", "boxes", "method", "samples", *JUDGING_ARGUMENTS)
DESCRIPTION = "YuNet, the face detector: for ONNX Runtime and pictures of any size, or with --size for engines."


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``detector`` and its arguments."""
    parser = subparsers.add_parser("detector", help="rewrite YuNet, the face detector", description=DESCRIPTION)
    parser.add_argument(
        "source", type=Path, nargs="?", default=YUNET, metavar="YUNET.onnx", help="default: the shipped file"
    )
    output_help = "the file to write; with --size its spec becomes FILE.onnx.json"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help=output_help)
    size_help = "of the pictures, multiples of 32, such as 640x384 (default: any size, for the CPU)"
    parser.add_argument("--size", type=picture_size, metavar="WxH", help=size_help)
    precision_help = "with --size: of weights and layers; input and outputs stay FP32 (default: fp32)"
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help=precision_help)
    parser.add_argument("--keep", nargs="+", default=[], metavar="NODE", help="with fp16: nodes that stay in FP32")
    group = parser.add_argument_group(
        "int8", "see 'python -m calibration'; faces appear in many sizes; --labels and --max-loss: fp16, too"
    )
    add_face_arguments(group, required=False)
    group.add_argument("--method", choices=tuple(METHODS), help="how ranges are chosen (default: mse)")
    group.add_argument("--samples", type=positive_int, metavar="N", help="faces to calibrate on (default: 500)")
    loss_help = "share of the faces that may be lost beside FP32 (default: 1%%), of the box that its sides may move"
    group.add_argument("--max-loss", type=share, metavar="SHARE", help=loss_help)
    parser.set_defaults(func=run_command)


def picture_size(text: str) -> tuple[int, int]:
    """Convert "640x384" to width and height, multiples of 32 px."""
    width, _, height = text.partition("x")
    sides = [int(side) if side.isascii() and side.isdecimal() and len(side) < 6 else 0 for side in (width, height)]
    if any(side % STRIDES[-1] or not STRIDES[-1] <= side <= MOST_SIDE for side in sides):
        message = f"must be WIDTHxHEIGHT, multiples of 32 up to {MOST_SIDE}, such as 640x384, is {text!r}"
        raise argparse.ArgumentTypeError(message)
    return sides[0], sides[1]


def run_command(args: argparse.Namespace) -> None:
    """Rewrite, check and write; the figures go to stdout, warnings to stderr."""
    _check_arguments(args)
    from calibration.precision.model_file import read_onnx, sound_model, write_model
    from export.graphs.yunet import PLANES, fixed_yunet, rewrite_yunet
    from runtime.storage.whole_files import whole_file

    _, source = read_onnx(args.source)
    with sound_model(args.source):
        model = rewrite_yunet(source)
    if args.size is None:
        with whole_file(args.output) as file:
            file.write(model.SerializeToString(deterministic=True))
    else:
        model = _in_precision(args, fixed_yunet(model, *args.size))
        write_model(model, DetectorSpec(NAME, DetectorInput(PLANES, *args.size), args.precision, ""), args.output)
    print(f"{args.output}: {args.output.stat().st_size:,} bytes")


def _check_arguments(args: argparse.Namespace) -> None:
    if args.output.suffix != ".onnx" or not args.output.absolute().parent.is_dir():
        problem = "the detector must become an .onnx in a folder that exists"
        raise FaceMeshError(f"{args.output}: {problem}; choose another name with -o")
    if args.output.resolve() == args.source.resolve():
        raise FaceMeshError(f"{args.output}: it would replace what it is made from; choose another name with -o")
    if args.size is None and args.precision != "fp32":
        raise FaceMeshError(f"--precision {args.precision}: needs a size, too; add --size 640x384")
    if args.keep and args.precision != "fp16":
        problem = "--keep names the nodes that --precision fp16 leaves alone"
        raise FaceMeshError(f"{problem}; add --precision fp16 or drop it")
    given = [name for name in INT8_ARGUMENTS if getattr(args, name) is not None]
    if args.precision == "fp16":
        given = [name for name in given if name not in JUDGING_ARGUMENTS]
    if given and args.precision != "int8":
        raise FaceMeshError(f"--{given[0].replace('_', '-')} is of --precision int8; add that or drop it")
    if args.precision == "int8" and args.crops is None:
        raise FaceMeshError("--precision int8 needs faces to calibrate on; add --crops FACES")
    require_writable(args.output)
    if args.size is not None:
        require_writable(DetectorSpec.path_for(args.output))


def _in_precision(args: argparse.Namespace, model: onnx.ModelProto) -> onnx.ModelProto:
    if args.precision == "fp16":
        return _halved(args, model)
    return _quantised(args, model) if args.precision == "int8" else model


def _halved(args: argparse.Namespace, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in FP16 that finds the faces of scenes of the shipped photograph. Raises `FaceMeshError`."""
    import numpy as np

    from calibration.detectors.judge import DetectorJudge, loss
    from calibration.detectors.quantise import MAX_LOSS, comparison, judging_scenes
    from export.checks.detector_scenes import photograph_scenes
    from export.checks.half_loss import overflowing
    from export.graphs.fp16 import to_fp16

    scenes = photograph_scenes(*args.size)
    unfit = overflowing(model, np.concatenate([planes for planes, _ in scenes]))
    half, warnings = to_fp16(model, {*args.keep, *unfit}, alike=True)
    warnings += [f"{node} stays in FP32: {reason}" for node, reason in unfit.items()]
    for warning in warnings:
        print_line(f"warning: {warning}")
    judge = DetectorJudge(scenes if args.labels is None else judging_scenes(args.labels, *args.size))
    before, after = judge.findings(model), judge.findings(half)
    place = f"the shipped photograph at {len(judge)} sizes: " if args.labels is None else f"of {len(judge)} faces "
    text = place + comparison(before, after, "FP16")
    if loss(after, before) > (MAX_LOSS if args.max_loss is None else args.max_loss):
        raise FaceMeshError(f"FP16 finds other faces ({text}); keep layers in FP32 with --keep")
    print(f"{'all' if not (args.keep or unfit) else 'other'} layers in FP16; {text}")
    return half


def _quantised(args: argparse.Namespace, model: onnx.ModelProto) -> onnx.ModelProto:
    from calibration.detectors.quantise import DetectorRequest, findings_text, quantise_detector

    given = {name: getattr(args, name) for name in INT8_ARGUMENTS if getattr(args, name) is not None}
    result = quantise_detector(model, *args.size, DetectorRequest(**given))
    print(f"{result.layers - len(result.float_layers)} of {result.layers} layers in INT8 besides the last ones")
    for change in result.float_layers:
        print(f"  stays in FP16: {change.layer}, which alone moves the scores by {change.score:.4f}")
    print(findings_text(result))
    return result.model
