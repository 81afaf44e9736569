"""``python -m calibration model.onnx --crops ... -o model-int8.onnx``: INT8 that stays within a limit of the landmark error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from calibration.accuracy.sensitivity import loss_table, write_losses
from calibration.options import add_calibration_arguments, report, request_of
from calibration.quantise import Quantiser
from runtime.console.exit_codes import exit_code_of
from runtime.errors import FaceMeshError
from runtime.models.spec import load_spec


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate, quantise, judge, write; returns the exit code."""
    args = _parser().parse_args(argv)
    return exit_code_of(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """The command; figures go to stdout."""
    for option, path in (("-o", args.output), ("--table", args.table), ("--sensitivity", args.sensitivity)):
        if path is not None and not path.absolute().parent.is_dir():
            raise FaceMeshError(f"{path}: there is no folder {path.parent}; create it or choose another place with {option}")
    if args.output.suffix.lower() != ".onnx" or args.output.resolve() == args.model.resolve():
        raise FaceMeshError(f"{args.output}: the INT8 model must become an .onnx file of its own; choose another name with -o")
    from calibration.precision.model_file import load_plain, write_int8

    if not args.model.is_file():
        raise FaceMeshError(f"{args.model}: no model file there; check the path")
    spec, model = load_spec(args.model), load_plain(args.model)
    quantiser = Quantiser(model, spec, request_of(args))
    if args.sensitivity is not None:
        from calibration.accuracy.loss_chart import draw_losses

        write_losses(quantiser.losses(), quantiser.table, args.sensitivity)
        draw_losses(quantiser.losses(), args.sensitivity.with_suffix(".png"))
        print(loss_table(quantiser.losses()))
    passed = quantiser.quantise()
    write_int8(passed.model, spec, args.output)
    report(quantiser, passed, model.ByteSize())
    print(f"{args.output}: written")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__)
    parser.add_argument("model", type=Path, help="FP32 model.onnx of 'python -m export onnx', with its spec beside it")
    add_calibration_arguments(parser, required=True)
    parser.add_argument("--sensitivity", type=Path, metavar="FILE.json", help="also measure each layer alone: a table, this file and a .png")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model-int8.onnx; the spec becomes model-int8.onnx.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
