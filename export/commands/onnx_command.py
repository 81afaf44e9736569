"""``python -m export onnx``: from a checkpoint, or a model that is ONNX already, to what the runtime takes.

    load_checkpoint ─ to_onnx ─ rewrite ─ (to_fp16 | quantise) ─ compare ─ write_model

A precision is a property of the graph: what is built from it later need not be told.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.options import add_calibration_arguments, report, request_of
from runtime.errors import FaceMeshError
from training.networks import NETWORK_NAMES

if TYPE_CHECKING:
    import onnx

    from export.graphs.rewrite import Step
    from runtime.models.spec import ModelSpec

DESCRIPTION = "A checkpoint, or a model that is ONNX already, becomes the ONNX file and spec that the runtime takes."


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m export onnx``."""
    parser = subparsers.add_parser("onnx", help="write ONNX and its spec", description=DESCRIPTION)
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="a PyTorch or TensorFlow checkpoint, or an .onnx file whose only output is one position map (N,3,S,S) or (N,S,S,3)",
    )
    parser.add_argument("--arch", choices=NETWORK_NAMES, help="the network; needed for a checkpoint, and for an .onnx file without a spec beside it")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model.onnx; the spec becomes model.onnx.json")
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of weights and layers; input and output stay FP32")
    parser.add_argument("--keep", nargs="+", default=[], metavar="NODE", help="with fp16: nodes of the rewritten model that stay in FP32")
    parser.add_argument("--no-rewrite", action="store_true", help="leave the graph as the exporter wrote it")
    add_calibration_arguments(parser.add_argument_group("int8", "see 'python -m calibration'"), required=False)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Export, check, write; the figures go to stdout, warnings to stderr."""
    if args.keep and args.precision != "fp16":
        raise FaceMeshError("--keep names the nodes that --precision fp16 leaves alone; add --precision fp16 or drop it")
    if (args.crops is None) == (args.precision == "int8"):
        raise FaceMeshError("--precision int8 and --crops, the faces to calibrate on, belong together; give both or none")
    if args.output.suffix.lower() != ".onnx" or not args.output.parent.is_dir():
        raise FaceMeshError(f"{args.output}: the model must become an .onnx file in a folder that exists; choose another name with -o")
    from calibration.precision.half_rounding import with_rounding
    from export.graphs.fp16 import to_fp16
    from export.graphs.model_file import precision_of, write_model
    from export.graphs.rewrite import rewrite
    from export.graphs.summary import summarise, table
    from export.graphs.verify import compare, require_live, run_model, verification_images

    reference, spec = _onnx_of_file(args) if args.weights.suffix.lower() == ".onnx" else _onnx_of_checkpoint(args)
    images = verification_images(spec.input, spec.crop_scale)
    expected = run_model(reference, images, spec.output.name)
    require_live(expected, spec, str(args.weights))
    model, steps = (reference, []) if args.no_rewrite else rewrite(reference, images, spec.output.name)
    _print_steps(steps)
    if args.precision == "fp16":
        model, warnings = to_fp16(model, args.keep)
        for warning in warnings:
            print(f"warning: {warning}", file=sys.stderr)
    elif args.precision == "int8":
        model = _quantise(args, model, spec)
    outputs = run_model(with_rounding(model), images, spec.output.name)
    require_live(outputs, spec, f"{args.weights} in {args.precision}")
    figures = table({"before": summarise(reference), "after": summarise(model)})
    difference = compare(expected, outputs, spec)
    write_model(model, dataclasses.replace(spec, precision=precision_of(model)), args.output)  # last of what can fail: an error leaves no files
    print(figures)
    print(f"{args.output}: differs from the model before by {difference}")


def _onnx_of_checkpoint(args: argparse.Namespace) -> tuple[onnx.ModelProto, ModelSpec]:
    if args.arch is None:
        raise FaceMeshError(f"{args.weights}: which network are these weights of? Add --arch {{{','.join(NETWORK_NAMES)}}}")
    from export.checkpoints.checkpoint import load_checkpoint
    from export.graphs.to_onnx import check_export, network_spec, to_onnx

    network = load_checkpoint(args.arch, args.weights)
    model, spec = to_onnx(network, args.arch), network_spec(network, args.arch)
    print(f"PyTorch and its export differ by {check_export(network, model, spec):.2g} in output units")
    return model, spec


def _onnx_of_file(args: argparse.Namespace) -> tuple[onnx.ModelProto, ModelSpec]:
    from export.graphs.model_file import derive_spec, load_onnx

    model, like = load_onnx(args.weights), None
    if args.arch is not None:
        from export.graphs.to_onnx import network_spec
        from training.networks import create_network

        like = network_spec(create_network(args.arch), args.arch)
    return model, derive_spec(model, args.weights, like)


def _quantise(args: argparse.Namespace, model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    from calibration.precision.model_file import check_plain
    from calibration.quantise import Quantiser

    check_plain(model, args.weights)
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    quantiser = Quantiser(model, dataclasses.replace(spec, onnx_sha256=digest), request_of(args))
    passed = quantiser.quantise()
    report(quantiser, passed, model.ByteSize())
    return passed.model


def _print_steps(steps: list[Step]) -> None:
    from export.graphs.rewrite import TOLERANCE

    if steps and steps[0].allowed > TOLERANCE:  # one tolerance for all
        print(
            f"rewrites may differ by {steps[0].allowed:.2g} here instead of {TOLERANCE:.2g}: outputs beyond 1, or a network that amplifies rounding"
        )
    for step in steps:
        if step.dropped is None:
            print(f"{step.name}: largest difference {step.difference:.2g}")
        else:
            print(f"warning: the rewrite {step.name} is left out: {step.dropped}", file=sys.stderr)
