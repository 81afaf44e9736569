"""``python -m calibration model.onnx --crops ... -o model-int8.onnx``: INT8 that stays within a limit of the landmark error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.placement import TARGETS
from calibration.quantise import DEFAULT_METHOD, Quantiser, Request
from calibration.ranges import METHODS
from calibration.sensitivity import loss_table, write_losses
from runtime.cli import run_guarded
from runtime.errors import FaceMeshError
from runtime.runner import load_spec

if TYPE_CHECKING:
    from calibration.gate import Passed


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate, quantise, judge, write; returns the exit code."""
    args = _parser().parse_args(argv)
    return run_guarded(lambda: run(args))


def add_calibration_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """What decides the INT8 model, for every command that makes one; `request_of` reads it."""
    crops_help = "pictures, or the common stem of .npz and .tar, whose training rows are used"
    parser.add_argument("--crops", type=Path, required=required, metavar="FOLDER|ARCHIVE", help=crops_help)
    parser.add_argument("--boxes", type=Path, metavar="FILE.csv", help="path,x1,y1,x2,y2 per face of a folder (default: the detector's boxes)")
    parser.add_argument("--labels", type=Path, metavar="STEM", help="labelled set to judge by (default: the validation rows of --crops)")
    parser.add_argument("--method", choices=tuple(METHODS), help=f"how ranges are chosen (default: {DEFAULT_METHOD})")
    parser.add_argument("--samples", type=_positive, default=500, metavar="N", help="crops to calibrate on, of all poses alike (default: 500)")
    parser.add_argument("--max-nme-increase", type=_share, default=0.02, metavar="SHARE", help="allowed, relative to FP32 (default: 0.02)")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="calibration table: read where it exists, otherwise written")
    parser.add_argument("--target", choices=TARGETS, default="tensorrt", help="whose form of INT8: cpu is ONNX Runtime's (default: tensorrt)")


def request_of(args: argparse.Namespace) -> Request:
    """The arguments of `add_calibration_arguments`."""
    return Request(args.crops, args.boxes, args.labels, args.method, args.samples, args.max_nme_increase, args.table, args.target)


def run(args: argparse.Namespace) -> None:
    """The command; figures go to stdout."""
    for option, path in (("-o", args.output), ("--table", args.table), ("--sensitivity", args.sensitivity)):
        if path is not None and not path.absolute().parent.is_dir():
            raise FaceMeshError(f"{path}: there is no folder {path.parent}; create it or choose another place with {option}")
    if args.output.suffix.lower() != ".onnx" or args.output.resolve() == args.model.resolve():
        raise FaceMeshError(f"{args.output}: the INT8 model must become an .onnx file of its own; choose another name with -o")
    from calibration.model_file import load_plain, write_int8

    if not args.model.is_file():
        raise FaceMeshError(f"{args.model}: no model file there; check the path")
    spec, model = load_spec(args.model), load_plain(args.model)
    quantiser = Quantiser(model, spec, request_of(args))
    if args.sensitivity is not None:
        write_losses(quantiser.losses(), quantiser.table, args.sensitivity)
        print(loss_table(quantiser.losses()))
    passed = quantiser.quantise()
    write_int8(passed.model, spec, args.output)
    report(quantiser, passed, model.ByteSize())
    print(f"{args.output}: written")


def report(quantiser: Quantiser, passed: Passed, size: int) -> None:
    """What the gate saw, and which layers it returned to float."""
    table, count = quantiser.table, len(quantiser.layers)
    print(f"{count - len(passed.float_layers)} of {count} layers in INT8 besides the tail; ranges by {table.method} from {table.samples} crops")
    for loss in passed.float_layers:
        print(f"  stays in FP32: {loss.layer}, which alone moves the landmarks by {loss.shift_px:.3f} px of the crop")
    print(
        f"NME on {quantiser.judged} faces: {passed.fp32_nme:.3f} % in FP32, {passed.int8_nme:.3f} % in INT8 ({100 * passed.increase:+.2f} %); "
        f"file {passed.model.ByteSize() / size:.3f} of FP32"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument("model", type=Path, help="FP32 model.onnx of 'python -m export onnx', with its spec beside it")
    add_calibration_arguments(parser, required=True)
    parser.add_argument("--sensitivity", type=Path, metavar="FILE.json", help="also measure each layer alone: a table, this file and a .png")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model-int8.onnx; the spec becomes model-int8.onnx.json")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _share(text: str) -> float:
    if not 0 <= (number := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError("must be a share such as 0.02")
    return number


if __name__ == "__main__":
    sys.exit(main())
