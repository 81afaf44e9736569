"""Arguments and report of the commands that make INT8 models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.precision.placement import TARGETS
from calibration.quantise import DEFAULT_METHOD, Quantiser, QuantiseRequest
from calibration.ranges.methods import METHODS
from runtime.console.arguments import positive_int, positive_number, share

if TYPE_CHECKING:
    from calibration.accuracy.gate import GateResult


FLOAT_OF = {"tensorrt": "FP16", "cpu": "FP32"}  # of layers outside INT8, see calibration.precision.qdq.to_int8
NEVER_INT8 = {"tensorrt": "the tail", "cpu": "stem and tail"}  # see calibration.precision.placement


def add_calibration_arguments(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the arguments of the INT8 model; `quantise_request` reads them. ``required`` is of the crops."""
    add_face_arguments(parser, required=required)
    method_help = f"how ranges are chosen (default: {DEFAULT_METHOD})"
    parser.add_argument("--method", choices=tuple(METHODS), help=method_help)
    samples_help = "crops to calibrate on, of all poses alike (default: 500)"
    parser.add_argument("--samples", type=positive_int, default=500, metavar="N", help=samples_help)
    increase_help = "allowed, relative to FP32 (default: 0.02)"
    parser.add_argument("--max-nme-increase", type=share, default=0.02, metavar="SHARE", help=increase_help)
    shift_help = (
        "how far the landmarks may move on average, px of the crop (default: 0.3 %% of its side); of INT8 without "
        "labels, and of FP16"
    )
    parser.add_argument("--max-shift", type=positive_number, metavar="PX", help=shift_help)
    table_help = "calibration table: read where it exists, otherwise written"
    parser.add_argument("--table", type=Path, metavar="FILE.json", help=table_help)
    target_help = "whose form of INT8: cpu is ONNX Runtime's (default: tensorrt)"
    parser.add_argument("--target", choices=TARGETS, default="tensorrt", help=target_help)


def add_face_arguments(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the arguments that name the faces to calibrate on and to judge by. ``required`` is of the crops."""
    crops_help = (
        "a folder of pictures, a film, a folder of 300W-LP, or the common stem of .npz and .tar, whose training rows "
        "are used"
    )
    parser.add_argument("--crops", type=Path, required=required, metavar="FACES", help=crops_help)
    boxes_help = "path,x1,y1,x2,y2 per face of a folder (default: the detector's boxes)"
    parser.add_argument("--boxes", type=Path, metavar="FILE.csv", help=boxes_help)
    labels_help = (
        "labelled set to judge by (default: the validation rows of --crops; of pictures a quarter, which is compared "
        "with FP32)"
    )
    parser.add_argument("--labels", type=Path, metavar="STEM", help=labels_help)


def quantise_request(args: argparse.Namespace) -> QuantiseRequest:
    """Return the arguments of `add_calibration_arguments`."""
    return QuantiseRequest(
        crops=args.crops,
        boxes=args.boxes,
        labels=args.labels,
        method=args.method,
        samples=args.samples,
        max_nme_increase=args.max_nme_increase,
        max_shift_px=args.max_shift,
        table=args.table,
        target=args.target,
    )


def report(quantiser: Quantiser, result: GateResult, size: int) -> None:
    """Print the figures of the gate and the layers that returned to float; ``size`` is of the FP32 model in bytes."""
    table = quantiser.table
    count = len(quantiser.layers)
    print(
        f"{count - len(result.float_layers)} of {count} layers in INT8 besides {NEVER_INT8[table.target]}; "
        f"ranges by {table.method} from {table.samples} crops"
    )
    for loss in result.float_layers:
        shift = f"which alone moves the landmarks by {loss.shift_px:.3f} px of the crop"
        print(f"  stays in {FLOAT_OF[table.target]}: {loss.layer}, {shift}")
    if result.int8_nme is None:
        measured = f"no labels: compared with FP32 on {quantiser.judged} faces, {quantiser.limit:.3g} px are allowed"
    else:
        measured = (
            f"NME on {quantiser.judged} faces: {result.fp32_nme:.3f} % in FP32, {result.int8_nme:.3f} % in INT8 "
            f"({100 * result.loss:+.2f} %)"
        )
    print(f"{measured}; file {result.model.ByteSize() / size:.3f} of FP32")
    print(
        f"landmarks move by {result.shift_px:.3f} px of the crop on average, vertices by "
        f"{quantiser.vertex_shift_px(result):.3f} px"
    )
    if (text := quantiser.confidence_text(result)) is not None:
        print(text)
