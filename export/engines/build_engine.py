"""Build an engine and its manifest from an ONNX model."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from export.engines.build_steps import BuiltEngine, EngineOptions
from runtime.console.extras import EXTRA_OF, REPAIR
from runtime.cuda.driver import platform_name
from runtime.errors import FaceMeshError
from runtime.models.manifest import EngineManifest
from runtime.storage.json_documents import document_bytes
from runtime.storage.whole_files import whole_files, write_error

if TYPE_CHECKING:
    from export.engines.engine_source import EngineSource

DEFAULT_BATCH = (1, 1, 8)  # of a dynamic model; 8 is the batch of the runtime's pipeline


def build_engine(source: EngineSource, options: EngineOptions, path: Path) -> EngineManifest:
    """Build the engine of ``source``, write it to ``path`` and its manifest beside it; return the manifest.

    An error leaves neither file. Raises `FaceMeshError` for options that contradict the model or the library, for a
    library that does not load, and for a failed build; `KeyboardInterrupt` on Ctrl-C.
    """
    # A name that cannot be written must not come up after a build of minutes.
    _check_output(path)
    if options.timing_cache is not None:
        _check_timing_cache(options.timing_cache, path)

    build = load_builder(options.library)
    options = dataclasses.replace(options, batch=batch_profile(source, options.batch))
    engine = build(source, options)
    manifest = EngineManifest(
        spec=source.spec,
        engine_sha256=hashlib.sha256(engine.plan).hexdigest(),
        library=options.library,
        version=engine.version,
        batch=options.batch,
        compute_capabilities=engine.compute_capabilities,
        device=engine.device.name if engine.device else None,
        dla_core=options.dla_core,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=rebuild_command(source.path, options, path),
        platform=platform_name(engine.device),
        multiprocessors=engine.device.multiprocessors or None if engine.device and not engine.fits_all_sizes else None,
    )
    write_engine(path, engine, manifest)
    return manifest


def load_builder(library: str) -> Callable[[EngineSource, EngineOptions], BuiltEngine]:
    """Return the build function of ``library``, one of `runtime.models.manifest.LIBRARIES`.

    Raises `ModuleNotFoundError` without the library, and `FaceMeshError` for one that is installed and does not load.
    """
    try:
        if library == "tensorrt":
            from export.engines.tensorrt_builder import build
        else:
            from export.engines.rtx_builder import build
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF:
            raise  # `exit_code_of` names the extra
        raise FaceMeshError(f"{library} is installed but does not load ({error}); {REPAIR}") from error
    return build


def batch_profile(source: EngineSource, wanted: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Return the batch sizes to build for: smallest, fastest, largest. A model of a fixed batch leaves no choice."""
    if source.batch is not None:
        fixed = (source.batch,) * 3
        if wanted is not None and wanted != fixed:
            remedy = "leave --batch out, or export it with a dynamic batch ('python -m export onnx')"
            raise FaceMeshError(f"{source.path}: its batch is fixed to {source.batch}; {remedy}")
        return fixed
    smallest, best, largest = wanted or DEFAULT_BATCH
    if not smallest <= best <= largest:
        raise FaceMeshError(f"--batch {smallest} {best} {largest}: must not fall, as in --batch 1 4 8")
    return smallest, best, largest


def rebuild_command(model: Path, options: EngineOptions, path: Path) -> str:
    """Return the command line of this build, the library and the batch spelt out."""
    assert options.batch is not None
    words = ["python", "-m", "export", "engine", str(model), "-o", str(path)]
    words += ["--backend", options.library, "--batch", *map(str, options.batch)]
    valued = {
        "--timing-cache": options.timing_cache,
        "--workspace": options.workspace_mib,
        "--opt-level": options.opt_level,
        "--dla-core": options.dla_core,
    }
    for option, value in valued.items():
        if value is not None:
            words += [option, str(value)]
    if options.hardware_compatible:
        words.append("--hardware-compat")
    if options.version_compatible:
        words.append("--version-compatible")
    return shlex.join(words)


def write_engine(path: Path, engine: BuiltEngine, manifest: EngineManifest) -> None:
    """Write the engine and its manifest, both or neither.

    The manifest gets its name first: a leftover manifest is harmless, an engine without manifest is not.
    """
    with whole_files(manifest.path_for(path), path) as (manifest_file, engine_file):
        engine_file.write(engine.plan)
        manifest_file.write(document_bytes(manifest))


def _check_output(path: Path) -> None:
    if path.is_dir() or path.suffix in (".onnx", ".json"):
        raise FaceMeshError(f"{path}: not a name for an engine; give one like model.engine")
    _check_folder(path, "-o")


def _check_timing_cache(path: Path, output: Path) -> None:
    if path.resolve() in (output.resolve(), EngineManifest.path_for(output).resolve()):
        problem = "--timing-cache and -o would write the same file"
        raise FaceMeshError(f"{path}: {problem}; give the cache a name of its own, like timing.cache")
    _check_folder(path, "--timing-cache")


def _check_folder(path: Path, option: str) -> None:
    """Make and remove a file in the folder of ``path``: nothing else tells if one can be written there."""
    if not path.parent.is_dir():
        raise FaceMeshError(f"{path.parent}: no such folder; make it first or choose another place with {option}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise write_error(path, error) from error
