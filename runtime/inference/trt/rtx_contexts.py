"""Execution contexts of TensorRT-RTX. It compiles an engine at its first run; the result is kept beside the engine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.errors import FaceMeshError
from runtime.storage.bounded_files import read_bounded
from runtime.storage.whole_files import whole_file


class RtxContexts:
    """Contexts of one engine with a shared runtime cache, ``model.engine.cache``.

    Without the cache every start of a program compiles anew, for seconds.
    """

    def __init__(self, trt: ModuleType, engine: Any, path: Path) -> None:
        self._path = path.with_name(path.name + ".cache")
        self._engine = engine
        self._runtime_config = engine.create_runtime_config()
        # A captured graph keeps its kernels, so the ones for its batch size must exist by then.
        self._runtime_config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._runtime_config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        self._runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED  # ours holds crop and decode too
        self._runtime_cache = self._runtime_config.create_runtime_cache()
        self._content = self._read()
        self._runtime_config.set_runtime_cache(self._runtime_cache)

    def create(self) -> Any:
        """Return a new context, None if the library fails."""
        return self._engine.create_execution_context(self._runtime_config)

    def save(self) -> None:
        """Write the code compiled since the last call; a read-only folder only costs time at the next start."""
        content = bytes(self._runtime_cache.serialize() or b"")
        if content and content != self._content:
            self._content = content
            with suppress(FaceMeshError), whole_file(self._path) as file:
                file.write(content)

    def _read(self) -> bytes:
        """Read the cache of an earlier run; the library judges if it fits device, driver and version."""
        try:
            content = read_bounded(self._path)
        except OSError:
            return b""
        return content if self._runtime_cache.deserialize(content) else b""
