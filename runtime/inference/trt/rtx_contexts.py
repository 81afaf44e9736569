"""Execution contexts of TensorRT-RTX, which compiles an engine for the device when it is first run: what it compiled is kept beside the engine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.errors import FaceMeshError
from runtime.storage.whole_files import whole_file


class RtxContexts:
    """The contexts of one engine share a runtime cache, ``model.engine.cache``; without it every start of a program compiles anew, for seconds."""

    def __init__(self, trt: ModuleType, engine: Any, path: Path) -> None:
        self._path = path.with_name(path.name + ".cache")
        self._engine = engine
        self._runtime_config = engine.create_runtime_config()
        # A captured graph keeps the kernels that it was captured with, so those for its size of batch have to be there by then.
        self._runtime_config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self._runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # ours holds crop and decode too
        self._runtime_cache = self._runtime_config.create_runtime_cache()
        self._content = self._read()
        self._runtime_config.set_runtime_cache(self._runtime_cache)

    def create(self) -> Any:
        """A new context; None where the library fails."""
        return self._engine.create_execution_context(self._runtime_config)

    def save(self) -> None:
        """Write what was compiled since; a folder that cannot be written costs time at the next start and nothing else."""
        content = bytes(self._runtime_cache.serialize() or b"")
        if content and content != self._content:
            self._content = content
            with suppress(FaceMeshError), whole_file(self._path) as file:
                file.write(content)

    def _read(self) -> bytes:
        """The cache of an earlier run, where it fits this device, driver and version: the library judges that itself."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return b""
        return content if self._runtime_cache.deserialize(content) else b""
