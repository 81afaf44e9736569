"""``python -m export deepstream``: a model as configurations of DeepStream's nvinfer."""

from __future__ import annotations

import argparse

from export.handover.deepstream import PipelineOptions, write_configurations
from runtime.console.arguments import some_path, whole_number

DESCRIPTION = (
    "Two configurations of nvinfer, YuNet on frames and the network on faces, with the files they name. "
    "Their tensors are parsed by pad probes over libfacemesh."
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``deepstream`` and its arguments."""
    parser = subparsers.add_parser("deepstream", help="configurations for DeepStream", description=DESCRIPTION)
    parser.add_argument("model", type=some_path, metavar="MODEL.onnx", help="with the .json beside it")
    parser.add_argument("-o", "--output", type=some_path, required=True, metavar="FOLDER", help="made if needed")
    defaults = PipelineOptions()
    batch_help = f"most faces in one run of the network ({defaults.batch})"
    parser.add_argument("--batch", type=whole_number(1, 256), default=defaults.batch, help=batch_help)
    interval_help = f"frames that YuNet leaves out after each one that it sees ({defaults.interval})"
    parser.add_argument("--interval", type=whole_number(0, 1000), default=defaults.interval, help=interval_help)
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Write the folder and print its files."""
    written = write_configurations(args.model, args.output, PipelineOptions(args.batch, args.interval))
    if written.batch != args.batch:
        print(f"note: the network runs {written.batch} faces at a time, not the {args.batch} of --batch")
    print(f"{args.output}: {', '.join(path.name for path in written.files)}")
