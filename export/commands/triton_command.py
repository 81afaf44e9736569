"""``python -m export triton``: a model as a repository for NVIDIA's Triton Inference Server."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from export.handover.triton_repository import NAME, ServerOptions, write_repository
from runtime.console.arguments import some_path, whole_number

DESCRIPTION = (
    "Two models for Triton: pictures in and faces out (Python backend), and the plain network. "
    "A repository that is there gets the next version."
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``triton`` and its arguments."""
    parser = subparsers.add_parser("triton", help="a model repository for Triton", description=DESCRIPTION)
    model_help = "one .onnx, or engines of one network, each for another compute capability; the .json beside them"
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help=model_help)
    output_help = "folder of the repository, made if needed"
    parser.add_argument("-o", "--output", type=some_path, required=True, metavar="REPOSITORY", help=output_help)
    defaults = ServerOptions()
    name_help = f"of the models: NAME and NAME_network ({defaults.name})"
    parser.add_argument("--name", type=_name, default=defaults.name, help=name_help)
    instances_help = f"processes, on every GPU or on the CPU ({defaults.instances})"
    parser.add_argument("--instances", type=whole_number(1, 256), default=defaults.instances, help=instances_help)
    workers_help = "threads of a process that decode and detect (one for each core of the server)"
    parser.add_argument("--workers", type=whole_number(1, 256), default=defaults.workers, help=workers_help)
    batch_help = f"most pictures, and crops of an ONNX network, at once ({defaults.batch})"
    parser.add_argument("--batch", type=whole_number(1, 256), default=defaults.batch, help=batch_help)
    face_model_help = "of a network of coefficients; default: the one that its .json names"
    parser.add_argument("--face-model", type=Path, metavar="FILE.npz", help=face_model_help)
    detector_help = "of 'python -m export detector --size', one .onnx or engines as MODEL (default: YuNet on the CPU)"
    parser.add_argument("--detector", type=Path, nargs="+", default=[], metavar="FILE", help=detector_help)
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Write the repository and print its models."""
    from export.handover.triton_source import open_models

    source = open_models(args.models, args.batch, args.face_model, args.detector)
    options = ServerOptions(args.name, args.instances, args.workers, args.batch)
    written = write_repository(source, options, args.output)
    if not re.fullmatch(r"[!-~]+", place := str(args.output.absolute())):
        print(f"note: Triton's Python models do not start in {place}: move it to a path without spaces, of ASCII alone")
    for path in written.replaced:
        print(f"note: {path} was another one before: config.pbtxt.before")
    print(
        f"{args.output}: {' and '.join(written.models)}, version {written.version}; "
        f"tritonserver --model-repository {args.output}"
    )


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"must be letters, digits and _ . -, at most 64, is {text!r}")
    return text
