"""``python -m export engine``: an ONNX file with its spec -> an engine with its manifest."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli import EXTRA_OF
from runtime.documents import document_bytes
from runtime.errors import FaceMeshError
from runtime.files import whole_file, write_error
from runtime.manifest import LIBRARIES, EngineManifest

if TYPE_CHECKING:
    from export.engine_build import Engine, EngineOptions
    from export.engine_source import EngineSource

DEFAULT_BATCH = (1, 1, 8)  # of a dynamic model; 8 is what the runtime's pipeline runs at once
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
    build = _load_builder(args.backend)
    from export.engine_build import EngineOptions
    from export.engine_source import open_source

    source = open_source(args.model)
    options = EngineOptions(
        batch=_batch(source, args.batch),
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
    _write(args.output, engine, manifest)
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


def _load_builder(backend: str) -> Callable[[EngineSource, EngineOptions], Engine]:
    try:
        if backend == "tensorrt":
            from export.tensorrt_builder import build
        else:
            from export.rtx_builder import build
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF:
            raise  # `run_guarded` names the extra
        raise FaceMeshError(f"{backend} is installed but does not load ({error}); install it again, or its missing part") from error
    return build


def _batch(source: EngineSource, wanted: list[int] | None) -> tuple[int, int, int]:
    """The sizes to build for; a model with a fixed batch leaves no choice."""
    if source.batch is not None:
        fixed = (source.batch,) * 3
        if wanted is not None and tuple(wanted) != fixed:
            raise FaceMeshError(
                f"{source.path}: its batch is fixed to {source.batch}; leave --batch out, or export it with a dynamic batch ('python -m export onnx')"
            )
        return fixed
    smallest, best, largest = wanted or DEFAULT_BATCH
    if not smallest <= best <= largest:
        raise FaceMeshError(f"--batch {smallest} {best} {largest}: must not fall, as in --batch 1 4 8")
    return smallest, best, largest


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


def _write(path: Path, engine: Engine, manifest: EngineManifest) -> None:
    """Both files or none. The manifest gets its name first: an engine without one would look complete, a manifest without its engine does not."""
    with whole_file(path) as engine_file:
        engine_file.write(engine.plan)
        engine_file.flush()  # a full disk shows before the manifest gets its name
        with whole_file(manifest.path_for(path)) as manifest_file:
            manifest_file.write(document_bytes(manifest))


def _whole(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from low to high."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert
