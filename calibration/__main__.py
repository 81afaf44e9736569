"""``python -m calibration model.onnx --crops ... -o model-int8.onnx``: INT8 within a limit of the landmark error."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from calibration.accuracy.sensitivity import loss_table, write_losses
from calibration.options import add_calibration_arguments, quantise_request, report
from calibration.quantise import Quantiser
from runtime.console.exit_codes import exit_code_of
from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec, load_spec
from runtime.storage.whole_files import require_writable

EPILOG = """\
'python -m calibration pack FOLDER -o STEM' makes a set of .npz and .tar, with fixed rows for judging."""


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate, quantise, judge and write; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["pack"]:
        from calibration import pack

        return pack.main(arguments[1:])
    return exit_code_of(lambda: run_command(_parser().parse_args(arguments)))


def run_command(args: argparse.Namespace) -> None:
    """Run the command; figures go to stdout."""
    _check_outputs(args)
    from calibration.precision.model_file import check_outputs, load_plain, write_model

    graph = load_plain(args.model)
    spec = load_spec(args.model, args.face_model)
    check_outputs(graph, spec, args.model)
    quantiser = Quantiser(graph, spec, quantise_request(args))
    if args.sensitivity is not None:
        from calibration.accuracy.loss_chart import draw_losses

        write_losses(quantiser.losses(), quantiser.table, args.sensitivity)
        draw_losses(quantiser.losses(), args.sensitivity.with_suffix(".png"))
        print(loss_table(quantiser.losses()))
    result = quantiser.quantise()
    write_model(result.model, dataclasses.replace(spec, precision="int8"), args.output)
    report(quantiser, result, graph.model.ByteSize())
    print(f"{args.output}: written")


def _check_outputs(args: argparse.Namespace) -> None:
    for option, path in (("-o", args.output), ("--table", args.table), ("--sensitivity", args.sensitivity)):
        if path is not None and not path.absolute().parent.is_dir():
            remedy = f"create it or choose another place with {option}"
            raise FaceMeshError(f"{path}: there is no folder {path.parent}; {remedy}")
    if args.output.suffix.lower() != ".onnx" or args.output.resolve() == args.model.resolve():
        problem = "the INT8 model must become an .onnx file of its own"
        raise FaceMeshError(f"{args.output}: {problem}; choose another name with -o")
    tables = [path for path in (args.table, args.sensitivity) if path is not None and not path.exists()]
    for path in (args.output, ModelSpec.path_for(args.output), *tables):
        require_writable(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m calibration", description=__doc__, epilog=EPILOG)
    model_help = "FP32 model.onnx of 'python -m export onnx', with its spec beside it"
    parser.add_argument("model", type=Path, help=model_help)
    add_calibration_arguments(parser, required=True)
    face_model_help = "of a network of coefficients (default: the one that its .json names, or beside the model)"
    parser.add_argument("--face-model", type=Path, metavar="FILE.npz", help=face_model_help)
    sensitivity_help = "also measure each layer alone: a table, this file and a .png"
    parser.add_argument("--sensitivity", type=Path, metavar="FILE.json", help=sensitivity_help)
    output_help = "model-int8.onnx; the spec becomes model-int8.onnx.json"
    parser.add_argument("-o", "--output", type=Path, required=True, help=output_help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
