"""``python -m export onnx``: from a checkpoint, or a model that is ONNX already, to a model of the runtime.

    open_weights ─ rewrite ─ (to_fp16 | quantise) ─ compare ─ write_content

A precision is a property of the graph: engines that are built from it take over its types.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.options import add_calibration_arguments, quantise_request, report
from runtime.console.arguments import finite_number
from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from runtime.models.file_kinds import ENGINE_SUFFIXES
from runtime.models.spec import ModelSpec, with_face_model
from runtime.storage.whole_files import require_writable
from training.networks import NETWORK_NAMES

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from export.commands.opened_model import OpenedModel
    from export.graphs.rewrite import Step
    from export.graphs.verify import Outputs

DESCRIPTION = "A checkpoint, or a model that is ONNX already, becomes the ONNX file and spec that the runtime takes."


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``onnx`` and its arguments."""
    parser = subparsers.add_parser("onnx", help="write ONNX and its spec", description=DESCRIPTION)
    weights_help = (
        "a PyTorch, safetensors or TensorFlow checkpoint, or an .onnx file whose first output is one position map "
        "(N,3,S,S) or (N,S,S,3), or one row of coefficients (N,P); a confidence head becomes or stays a second output"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--weights", type=Path, metavar="FILE", help=weights_help)
    untrained_help = "random weights, the same every time: to time --arch on a device; the meshes mean nothing"
    source.add_argument("--untrained", action="store_true", help=untrained_help)
    arch_help = "the network; needed for a checkpoint, and for an .onnx file without a spec beside it"
    parser.add_argument("--arch", choices=NETWORK_NAMES, help=arch_help)
    output_help = "model.onnx; the spec becomes model.onnx.json"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.onnx", help=output_help)
    precision_help = "of weights and layers; input and output stay FP32 (default: fp32)"
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help=precision_help)
    keep_help = "with fp16: nodes of the rewritten model that stay in FP32 (default: those that do not fit)"
    parser.add_argument("--keep", nargs="+", default=[], metavar="NODE", help=keep_help)
    face_model_help = "of a network of coefficients (default: face_model.npz here or beside the weights)"
    parser.add_argument("--face-model", type=Path, metavar="FILE.npz", help=face_model_help)
    whitening_help = "mean and std of a coefficient network's numbers (default: 3DDFA's file beside the weights)"
    parser.add_argument("--whitening", type=Path, metavar="FILE", help=whitening_help)
    parser.add_argument("--no-rewrite", action="store_true", help="leave the graph as the exporter wrote it")
    _add_form_arguments(parser.add_argument_group("form of the picture", "what a file without a spec cannot say"))
    add_calibration_arguments(parser.add_argument_group("int8", "see 'python -m calibration'"), required=False)
    parser.set_defaults(func=run_command)


def _add_form_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--colour-order", choices=("RGB", "BGR"), help="of the channels (default: that of --arch)")
    range_help = "values of black and white (default: those of --arch, or of a file that scales pictures itself)"
    group.add_argument("--value-range", type=finite_number, nargs=2, metavar=("LOW", "HIGH"), help=range_help)
    sheet_help = "also draw five meshes on the shipped photograph, so that a wrong form is seen"
    group.add_argument("--contact-sheet", type=Path, metavar="FILE.jpg", help=sheet_help)


def run_command(args: argparse.Namespace) -> None:
    """Export, check and write; the figures go to stdout, warnings to stderr."""
    _check_arguments(args)
    import numpy as np

    from calibration.precision.half_rounding import with_rounding
    from calibration.precision.model_file import write_content
    from export.commands.opened_model import open_weights
    from export.graphs.heavy_weights import pieces, take_out
    from export.graphs.model_file import precision_of
    from export.graphs.rewrite import rewrite
    from export.graphs.summary import summarise, table
    from export.graphs.verify import compare, require_sound, run_outputs, verification_images

    # The reference: the model as it came, and its outputs, with which everything is compared.
    opened = open_weights(args)
    name = str(args.weights or f"untrained {args.arch}")
    reference, heavy = opened.prepared, opened.heavy
    names_its_place = args.weights is not None and ModelSpec.path_for(args.weights).is_file()
    if args.face_model is not None or not names_its_place:
        opened.spec = with_face_model(opened.spec, args.weights or args.output, args.face_model)
    spec = opened.spec
    images = verification_images(spec.input, spec.crop_scale)
    expected = run_outputs(opened.came, images, spec.outputs, heavy=heavy)
    if opened.network is not None:
        _print_export_difference(opened.network, images, expected)
    require_sound(expected, spec, name)
    if opened.network is None:
        _check_foreign(opened.came, reference, images, expected, args.weights)
    if opened.is_guessed:
        _check_form(opened, args.weights)
    if opened.network is None:
        heavy = take_out(reference)
    del opened  # its weights are most of the memory
    gc.collect()

    # Rewrites, then the precision.
    model = reference
    if not args.no_rewrite:
        model, steps = rewrite(reference, images, expected, heavy=heavy)
        _print_steps(steps)
    before = summarise(reference, heavy)
    full = model
    model, heavy = _in_precision(args, model, heavy, spec, images)

    # The result. Writing is the last step that can fail, so that an error leaves no files.
    outputs = run_outputs(with_rounding(model), images, spec.outputs, heavy=heavy)
    require_sound(outputs, spec, f"{name} in {args.precision}")
    if args.precision == "fp16":
        _check_half(args, full, images, expected, outputs, spec)
    figures = table({"before": before, "after": summarise(model, heavy)})
    difference = compare(expected[spec.output.name], outputs[spec.output.name], spec)
    written = dataclasses.replace(spec, precision=precision_of(model))
    write_content(pieces(model, heavy), written, args.output)
    print(figures)
    print(f"{args.output}: differs from the model before by {difference}")
    if spec.confidence is not None:
        change = float(np.abs(outputs[spec.confidence] - expected[spec.confidence]).max())
        print(f"{args.output}: its confidence differs by {change:.2g}")
    if args.contact_sheet is not None:
        _draw_sheet(args, written)


def _check_arguments(args: argparse.Namespace) -> None:
    if args.keep and args.precision != "fp16":
        problem = "--keep names the nodes that --precision fp16 leaves alone"
        raise FaceMeshError(f"{problem}; add --precision fp16 or drop it")
    if (args.crops is None) == (args.precision == "int8"):
        problem = "--precision int8 and --crops, the faces to calibrate on, belong together"
        raise FaceMeshError(f"{problem}; give both or none")
    if args.output.suffix.lower() in ENGINE_SUFFIXES:
        command = f"python -m export engine MODEL.onnx -o {args.output}"
        raise FaceMeshError(f"{args.output}: the model must become an .onnx file; then '{command}' builds the engine")
    if args.output.suffix.lower() != ".onnx" or not args.output.absolute().parent.is_dir():
        problem = "the model must become an .onnx file in a folder that exists"
        raise FaceMeshError(f"{args.output}: {problem}; choose another name with -o")
    if args.weights is not None and args.output.resolve() == args.weights.resolve():
        raise FaceMeshError(f"{args.output}: the model would replace what it is made from; choose another name with -o")
    require_writable(args.output)
    require_writable(ModelSpec.path_for(args.output))
    if args.contact_sheet is not None:
        from export.checks.contact_sheet import check_sheet_path

        check_sheet_path(args.contact_sheet)
        require_writable(args.contact_sheet)


def _check_form(opened: OpenedModel, path: Path) -> None:
    """Compare the landmarks with those of the shipped model, in this form of the picture and in others."""
    from export.checks.agreement import check_form

    try:
        text = check_form(opened.came, opened.spec, opened.heavy)
    except FaceMeshError as error:
        raise FaceMeshError(f"{path}: {error}") from None
    (print_line if text.startswith("warning") else print)(text)


def _check_half(
    args: argparse.Namespace,
    full: onnx.ModelProto,
    images: NDArray[np.float32],
    expected: Outputs,
    outputs: Outputs,
    spec: ModelSpec,
) -> None:
    """Refuse half precision that moves the landmarks of the photograph too far."""
    from export.checks.half_loss import require_small_shift

    photographs = slice(0, len(images) - 1)  # the last one is noise
    before, after = ({name: array[photographs] for name, array in found.items()} for found in (expected, outputs))
    require_small_shift(full, images[photographs], before, after, spec, args.max_shift)


def _draw_sheet(args: argparse.Namespace, spec: ModelSpec) -> None:
    from export.checks.contact_sheet import write_contact_sheet

    write_contact_sheet(args.output, spec, args.contact_sheet)
    print(f"{args.contact_sheet}: five meshes, % of the box from the shipped model's landmarks")


def _check_foreign(
    came: onnx.ModelProto,
    prepared: onnx.ModelProto,
    images: NDArray[np.float32],
    expected: Outputs,
    path: Path,
) -> None:
    """Compare a model with itself as it came, and faces alone with faces in a batch; tell of a newer opset."""
    from export.graphs.foreign import OPSET, opset_of
    from export.graphs.verify import has_free_batch, require_independent, require_same, run_outputs

    try:
        change = f"bringing opset {opset_of(came)} to {opset_of(prepared)} changes the results"
        require_same(expected, run_outputs(prepared, images, expected), f"{change}; export it with opset {OPSET}")
        if has_free_batch(prepared):
            require_independent(came, images, expected)
    except FaceMeshError as error:
        raise FaceMeshError(f"{path}: {error}") from None
    if opset_of(prepared) > OPSET:
        print(f"opset {opset_of(prepared)} is kept: some operators have no form in {OPSET}, which TensorRT 8.6 needs")


def _in_precision(
    args: argparse.Namespace,
    model: onnx.ModelProto,
    heavy: dict[str, NDArray],
    spec: ModelSpec,
    images: NDArray[np.float32],
) -> tuple[onnx.ModelProto, dict[str, NDArray]]:
    """Return the model and its heavy weights in the precision that the command asks for."""
    from export.graphs.heavy_weights import halved, put_back, readers_unfit_for_half

    if args.precision == "fp16":
        from export.checks.half_loss import overflowing
        from export.graphs.fp16 import to_fp16

        unfit = {**overflowing(model, images, heavy), **readers_unfit_for_half(model, heavy)}
        model, warnings = to_fp16(model, {*args.keep, *unfit})
        warnings += [f"{node} stays in FP32: {reason}" for node, reason in unfit.items()]
        for warning in warnings:
            print_line(f"warning: {warning}")
        model = halved(model, heavy)
    elif args.precision == "int8":
        model, heavy = _quantise(args, put_back(model, heavy), spec), {}
    return model, heavy


def _quantise(args: argparse.Namespace, model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    from calibration.precision.graph_view import Graph
    from calibration.precision.model_file import check_plain
    from calibration.quantise import Quantiser

    graph = Graph(model)
    check_plain(graph, args.weights)
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    quantiser = Quantiser(graph, dataclasses.replace(spec, onnx_sha256=digest), quantise_request(args))
    result = quantiser.quantise()
    report(quantiser, result, model.ByteSize())
    return result.model


def _print_export_difference(network: nn.Module, images: NDArray[np.float32], exported: Outputs) -> None:
    from export.graphs.to_onnx import export_difference

    difference = export_difference(network, images, exported)
    print(f"PyTorch and its export differ by {difference:.2g} in output units")


def _print_steps(steps: list[Step]) -> None:
    from export.graphs.rewrite import TOLERANCE

    if steps and steps[0].allowed > TOLERANCE:  # one tolerance for all
        reason = "outputs beyond 1, or a network that amplifies rounding"
        print(f"rewrites may differ by {steps[0].allowed:.2g} here instead of {TOLERANCE:.2g}: {reason}")
    for step in steps:
        if step.dropped is None:
            print(f"{step.name}: largest difference {step.difference:.2g}")
        else:
            print_line(f"warning: the rewrite {step.name} is left out: {step.dropped}")
