"""What the commands that make INT8 models have in common: their arguments and their report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.precision.placement import TARGETS
from calibration.quantise import DEFAULT_METHOD, Quantiser, Request
from calibration.ranges.methods import METHODS
from runtime.console.arguments import positive_int, share

if TYPE_CHECKING:
    from calibration.accuracy.gate import Passed


FLOAT_OF = {"tensorrt": "FP16", "cpu": "FP32"}  # what layers outside INT8 compute in, see calibration.precision.qdq.to_int8


def add_calibration_arguments(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """What decides the INT8 model; `request_of` reads it."""
    crops_help = "pictures, or the common stem of .npz and .tar, whose training rows are used"
    parser.add_argument("--crops", type=Path, required=required, metavar="FOLDER|ARCHIVE", help=crops_help)
    parser.add_argument("--boxes", type=Path, metavar="FILE.csv", help="path,x1,y1,x2,y2 per face of a folder (default: the detector's boxes)")
    parser.add_argument("--labels", type=Path, metavar="STEM", help="labelled set to judge by (default: the validation rows of --crops)")
    parser.add_argument("--method", choices=tuple(METHODS), help=f"how ranges are chosen (default: {DEFAULT_METHOD})")
    parser.add_argument("--samples", type=positive_int, default=500, metavar="N", help="crops to calibrate on, of all poses alike (default: 500)")
    parser.add_argument("--max-nme-increase", type=share, default=0.02, metavar="SHARE", help="allowed, relative to FP32 (default: 0.02)")
    parser.add_argument("--table", type=Path, metavar="FILE.json", help="calibration table: read where it exists, otherwise written")
    parser.add_argument("--target", choices=TARGETS, default="tensorrt", help="whose form of INT8: cpu is ONNX Runtime's (default: tensorrt)")


def request_of(args: argparse.Namespace) -> Request:
    """The arguments of `add_calibration_arguments`."""
    return Request(args.crops, args.boxes, args.labels, args.method, args.samples, args.max_nme_increase, args.table, args.target)


def report(quantiser: Quantiser, passed: Passed, size: int) -> None:
    """What the gate saw, and which layers it returned to float."""
    table, count = quantiser.table, len(quantiser.layers)
    print(f"{count - len(passed.float_layers)} of {count} layers in INT8 besides the tail; ranges by {table.method} from {table.samples} crops")
    for loss in passed.float_layers:
        print(f"  stays in {FLOAT_OF[table.target]}: {loss.layer}, which alone moves the landmarks by {loss.shift_px:.3f} px of the crop")
    print(
        f"NME on {quantiser.judged} faces: {passed.fp32_nme:.3f} % in FP32, {passed.int8_nme:.3f} % in INT8 ({100 * passed.increase:+.2f} %); "
        f"file {passed.model.ByteSize() / size:.3f} of FP32"
    )
