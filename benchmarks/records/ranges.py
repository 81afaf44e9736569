"""Named ranges for Nsight Systems (NVTX) where the package nvtx is installed, nothing elsewhere.

``nsys profile -t cuda,nvtx python -m benchmarks gpu-report …`` shows the report's parts and frames by these names.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib.util import find_spec


def named_range(name: str) -> AbstractContextManager[object]:
    """Return a context manager: the work inside it is a range called ``name``."""
    if not _is_installed():
        return nullcontext()
    from benchmarks.records.nvtx_ranges import annotate

    return annotate(name)


@cache
def _is_installed() -> bool:
    return find_spec("nvtx") is not None
