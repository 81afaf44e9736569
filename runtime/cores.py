"""The CPU cores of this process."""

from __future__ import annotations

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BYTE_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}  # what Linux calls these instructions


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_byte_products() -> bool:
    """Return True if the cores sum products of bytes in one instruction: VNNI of x86, DotProd of ARM.

    Linux tells it; elsewhere the answer is False.
    """
    try:
        with CPUINFO.open() as lines:
            features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return not BYTE_PRODUCTS.isdisjoint(features.split())
