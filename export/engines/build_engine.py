"""Build an engine and its manifest from an ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.console.exit_codes import EXTRA_OF
from runtime.errors import FaceMeshError
from runtime.models.manifest import EngineManifest
from runtime.storage.json_documents import document_bytes
from runtime.storage.whole_files import whole_file

if TYPE_CHECKING:
    from export.engines.build_steps import Engine, EngineOptions
    from export.engines.engine_source import EngineSource

DEFAULT_BATCH = (1, 1, 8)  # of a dynamic model; 8 is what the runtime's pipeline runs at once


def load_builder(backend: str) -> Callable[[EngineSource, EngineOptions], Engine]:
    try:
        if backend == "tensorrt":
            from export.engines.tensorrt_builder import build
        else:
            from export.engines.rtx_builder import build
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in EXTRA_OF:
            raise  # `exit_code_of` names the extra
        raise FaceMeshError(f"{backend} is installed but does not load ({error}); install it again, or its missing part") from error
    return build


def batch_profile(source: EngineSource, wanted: list[int] | None) -> tuple[int, int, int]:
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


def write_engine(path: Path, engine: Engine, manifest: EngineManifest) -> None:
    """Both files or none. The manifest gets its name first: an engine without one would look complete, a manifest without its engine does not."""
    with whole_file(path) as engine_file:
        engine_file.write(engine.plan)
        engine_file.flush()  # a full disk shows before the manifest gets its name
        with whole_file(manifest.path_for(path)) as manifest_file:
            manifest_file.write(document_bytes(manifest))
