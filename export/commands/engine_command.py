"""``python -m export engine``: an ONNX file with its spec -> an engine with its manifest."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from export.engines.build_engine import batch_profile, load_builder, write_engine
from runtime.errors import FaceMeshError
from runtime.models.manifest import LIBRARIES, EngineManifest
from runtime.storage.whole_files import write_error

MOST_WORKSPACE_MIB = 1 << 20


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "engine",
        help="build an engine and its manifest",
        description="ONNX and its spec -> an engine, its manifest beside it. TensorRT's engines run on the kind of device that built them: build on "
        "the target. Those of TensorRT-RTX are built with a GPU or without, and run on GPUs from Ampere on.",
    )
    parser.add_argument("model", type=Path, help="model.onnx, its spec model.onnx.json beside it; the precision is in the model")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model.engine; the manifest becomes model.engine.json")
    parser.add_argument("--backend", choices=LIBRARIES, default="tensorrt", help="the library (tensorrt)")
    parser.add_argument(
        "--batch", type=_whole(1, 1024), nargs=3, metavar=("MIN", "OPT", "MAX"), help="faces at once (1 1 8, or what a model is fixed to)"
    )
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="measurements of earlier builds, read and written")
    parser.add_argument("--workspace", type=_whole(1, MOST_WORKSPACE_MIB), metavar="MIB", help="most device memory for intermediate results")
    parser.add_argument("--opt-level", type=_whole(0, 5), metavar="N", help="how long to search, 0..5 (3)")
    parser.add_argument("--dla-core", type=_whole(0, 15), metavar="N", help="run on this deep learning accelerator, what it lacks on the GPU")
    parser.add_argument("--hardware-compat", action="store_true", help="run on all GPUs from Ampere on, somewhat slower")
    parser.add_argument("--version-compatible", action="store_true", help="run on newer versions of TensorRT too, somewhat slower")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Check, build, write, tell."""
    _check_output(args.output)
    if args.timing_cache is not None:
        _check_timing_cache(args.timing_cache, args.output)
    build = load_builder(args.backend)
    from export.engines.build_steps import EngineOptions
    from export.engines.engine_source import open_source

    source = open_source(args.model)
    options = EngineOptions(
        batch=batch_profile(source, args.batch),
        timing_cache=args.timing_cache,
        workspace_mib=args.workspace,
        opt_level=args.opt_level,
        dla_core=args.dla_core,
        hardware_compatible=args.hardware_compat,
        version_compatible=args.version_compatible,
    )
    engine = build(source, options)
    manifest = EngineManifest(
        spec=source.spec,
        engine_sha256=hashlib.sha256(engine.plan).hexdigest(),
        library=args.backend,
        version=engine.version,
        batch=options.batch,
        compute_capabilities=engine.compute_capabilities,
        device=engine.device,
        dla_core=options.dla_core,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=rebuild_command(args, options.batch),
    )
    write_engine(args.output, engine, manifest)
    print(
        f"{args.output}: {engine.plan.nbytes / 1e6:.1f} MB, {source.spec.precision}, batch {'..'.join(map(str, options.batch))}, "
        f"{args.backend} {engine.version}, compute capability {', '.join(engine.compute_capabilities)}; manifest {manifest.path_for(args.output)}"
    )


def rebuild_command(args: argparse.Namespace, batch: tuple[int, int, int]) -> str:
    """The command line that does the same again, with what was left to defaults spelt out where it matters."""
    words = ["python", "-m", "export", "engine", args.model, "-o", args.output, "--backend", args.backend, "--batch", *batch]
    for option in ("timing_cache", "workspace", "opt_level", "dla_core", "hardware_compat", "version_compatible"):
        value = getattr(args, option)
        if value is None or value is False:
            continue
        words += [f"--{option.replace('_', '-')}", *([] if value is True else [value])]
    return shlex.join(map(str, words))


def _check_output(path: Path) -> None:
    """What would only come up after a build of minutes."""
    if path.is_dir() or path.suffix in (".onnx", ".json"):
        raise FaceMeshError(f"{path}: not a name for an engine; give one like model.engine")
    if not path.parent.is_dir():
        raise FaceMeshError(f"{path.parent}: no such folder; make it first or choose another place with -o")
    _check_folder(path)


def _check_timing_cache(path: Path, output: Path) -> None:
    """The same of the timing cache, which is written after the build and before the engine."""
    if path.resolve() in (output.resolve(), EngineManifest.path_for(output).resolve()):
        raise FaceMeshError(f"{path}: --timing-cache and -o would write the same file; give the cache a name of its own, like timing.cache")
    if not path.parent.is_dir():
        raise FaceMeshError(f"{path.parent}: no such folder; make it first or choose another place with --timing-cache")
    _check_folder(path)


def _check_folder(path: Path) -> None:
    """Whether a file can be made there is only known by making one."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise write_error(path, error) from error


def _whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from low to high."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert
