"""``python -m export inspect``: describe an ONNX file or an engine without running either."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.cuda.driver import Device, find_device
from runtime.errors import FaceMeshError, one_line
from runtime.inference.trt.libraries import choose, fault
from runtime.models.detector_spec import CHANNELS, AnySpec, DetectorSpec, load_spec_of
from runtime.models.file_kinds import refuse_other_kind
from runtime.models.manifest import EngineManifest


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="tell what a model or an engine is",
        description="ONNX: spec, GFLOP, bytes, and every layer with weights: name, operator, shape, type. "
        "Engine: its manifest, and whether this machine can run it. Neither is run or loaded.",
    )
    parser.add_argument("file", type=Path, help="model.onnx or model.engine")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Print it."""
    refuse_other_kind(args.file, "model")
    lines = _onnx_lines(args.file) if args.file.suffix.lower() == ".onnx" else _engine_lines(args.file)
    print("\n".join(lines))


def _engine_lines(path: Path) -> list[str]:
    """The manifest, once it is sure that it is that of the engine."""
    manifest = EngineManifest.load_for(path)
    device = find_device()
    library, reason = choose(manifest, device)
    found = (
        f"{manifest.library} {'does not load' if fault(manifest.library) else 'not installed'}"
        if library is None
        else f"{library.__name__.replace('_', '-')} {library.__version__}"
    )
    return [
        f"{path}: {path.stat().st_size:,} bytes, {manifest.spec.precision} engine",
        f"  built       {manifest.created} {f'on {manifest.device}' if manifest.device else 'without a device'}",
        f"  library     {manifest.library} {manifest.version}",
        f"  runs on     compute capability {', '.join(manifest.compute_capabilities)}{_dla_text(manifest)}",
        f"  batch       {manifest.batch[0]} to {manifest.batch[2]}, fastest at {manifest.batch[1]}",
        *_spec_lines(manifest.spec),
        f"  SHA-256     {manifest.engine_sha256} engine",
        f"              {manifest.spec.onnx_sha256} ONNX",
        f"  command     {manifest.command}",
        f"  here        {found}, {_device_text(device)}",
        "  verdict     runs on this machine"
        if reason is None
        else f"  verdict     does not run on this machine: {reason}",
    ]


def _onnx_lines(path: Path) -> list[str]:
    """The graph, and the spec if one belongs to it."""
    from calibration.precision.model_file import sound_model
    from export.engines.engine_source import precision_of, read_whole_onnx, weight_types
    from export.graphs.foreign import opset_of
    from export.graphs.summary import summarise, weighted_layers

    data, model = read_whole_onnx(path)
    with sound_model(path):
        summary, layers = summarise(model), _layer_lines(weighted_layers(model))
        precision, types = precision_of(model), _counts(weight_types(model))
        operators = _counts(summary.operators)
    gflop = "–" if summary.gflop is None else f"{summary.gflop:.3g}"
    try:
        spec = [*_spec_lines(load_spec_of(path)), "  spec        belongs to this file"]
    except FaceMeshError as error:
        spec = [f"  spec        {error}"]
    return [
        f"{path}: {len(data):,} bytes, {precision} model",
        f"  network     {summary.nodes} nodes, {summary.parameters:,} parameters, {gflop} GFLOP for one input",
        f"  layers      {operators}",
        f"  format      IR {model.ir_version}, opset {opset_of(model)}",
        f"  weights     {types}",
        *spec,
        f"  SHA-256     {hashlib.sha256(data).hexdigest()}",
        *layers,
    ]


def _layer_lines(layers: Sequence[tuple[str, ...]]) -> list[str]:
    """One line per layer, in columns."""
    layers = [tuple(one_line(text, 80) for text in layer) for layer in layers]
    widths = [max(map(len, column)) for column in zip(*layers, strict=True)]
    rows = ("  ".join(map(str.ljust, layer, widths)).rstrip() for layer in layers)
    return [f"  {'' if index else 'weighted':12}{row}" for index, row in enumerate(rows)]


def _counts(found: Mapping[str, int]) -> str:
    """{"Conv": 3, "Relu": 2} -> "3 Conv, 2 Relu", the most frequent first."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {one_line(name, 80)}" for name, count in ordered)


def _spec_lines(spec: AnySpec) -> list[str]:
    low, high = spec.input.value_range
    if isinstance(spec, DetectorSpec):
        given = spec.input
        return [
            f"  model       {spec.name}, detector, {spec.precision}",
            f"  input       {given.name}: {given.width} x {given.height} px, NCHW, {given.colour_order}, "
            f"{low:g} to {high:g}",
            f"  outputs     {', '.join(spec.levels)}: {CHANNELS} numbers every {', '.join(map(str, spec.strides))} px",
        ]
    confidence = [] if spec.confidence is None else [f"  confidence  {spec.confidence}: 0 to 1"]
    return [
        f"  model       {spec.name}, {spec.family}, {spec.precision}, "
        f"crop {spec.crop_scale:g} x box, topology {spec.topology}",
        f"  input       {spec.input.name}: {spec.input.size} px, {spec.input.layout}, {spec.input.colour_order}, "
        f"{low:g} to {high:g}{', and a channel of landmarks' * spec.input.landmark_channel}",
        f"  output      {spec.output.name}: {spec.output.describe()}",
        *confidence,
    ]


def _device_text(device: Device | None) -> str:
    return "no CUDA device" if device is None else f"{device.name} of compute capability {device.compute_capability}"


def _dla_text(manifest: EngineManifest) -> str:
    return "" if manifest.dla_core is None else f", DLA core {manifest.dla_core}"
