"""``python -m export engine``: an ONNX file with its spec -> an engine with its manifest."""

from __future__ import annotations

import argparse
from pathlib import Path

from export.engines.build_engine import build_engine
from export.engines.build_steps import EngineOptions
from runtime.console.arguments import whole_number
from runtime.models.manifest import LIBRARIES

MOST_WORKSPACE_MIB = 1 << 20
DESCRIPTION = (
    "ONNX and its spec -> an engine, its manifest beside it. "
    "TensorRT's engines run on the kind of device that built them: "
    "build on the target. Those of TensorRT-RTX are built with a GPU or without, and run on GPUs from Ampere on."
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``engine`` and its arguments."""
    parser = subparsers.add_parser("engine", help="build an engine and its manifest", description=DESCRIPTION)
    model_help = "model.onnx, its spec model.onnx.json beside it; the precision is in the model"
    parser.add_argument("model", type=Path, help=model_help)
    output_help = "model.engine; the manifest becomes model.engine.json"
    parser.add_argument("-o", "--output", type=Path, required=True, help=output_help)
    parser.add_argument("--backend", choices=LIBRARIES, default="tensorrt", help="the library (tensorrt)")
    batch_help = "faces at once (1 1 8, or what a model is fixed to)"
    batch_names = ("MIN", "OPT", "MAX")
    parser.add_argument("--batch", type=whole_number(1, 1024), nargs=3, metavar=batch_names, help=batch_help)
    cache_help = "measurements of earlier builds, read and written"
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help=cache_help)
    workspace_help = "most device memory for intermediate results"
    parser.add_argument("--workspace", type=whole_number(1, MOST_WORKSPACE_MIB), metavar="MIB", help=workspace_help)
    parser.add_argument("--opt-level", type=whole_number(0, 5), metavar="N", help="how long to search, 0..5 (3)")
    dla_help = "run on this deep learning accelerator, what it lacks on the GPU"
    parser.add_argument("--dla-core", type=whole_number(0, 15), metavar="N", help=dla_help)
    hardware_help = "run on all GPUs from Ampere on, somewhat slower"
    parser.add_argument("--hardware-compat", action="store_true", help=hardware_help)
    version_help = "run on newer versions of TensorRT too, somewhat slower"
    parser.add_argument("--version-compatible", action="store_true", help=version_help)
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Build the engine and print one line on it."""
    from export.engines.engine_source import open_source

    options = EngineOptions(
        library=args.backend,
        batch=None if args.batch is None else tuple(args.batch),
        timing_cache=args.timing_cache,
        workspace_mib=args.workspace,
        opt_level=args.opt_level,
        dla_core=args.dla_core,
        hardware_compatible=args.hardware_compat,
        version_compatible=args.version_compatible,
    )
    manifest = build_engine(open_source(args.model), options, args.output)
    print(
        f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB, {manifest.spec.precision}, "
        f"batch {'..'.join(map(str, manifest.batch))}, {manifest.library} {manifest.version}, "
        f"compute capability {', '.join(manifest.compute_capabilities)}; manifest {manifest.path_for(args.output)}"
    )
