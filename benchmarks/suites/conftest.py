"""Fixtures of the suites. Home of pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.records.measured_faces import Face, load_measured_faces
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_PICTURE

WARM_UP = 50  # rounds that do not count; without being asked pytest-benchmark has none


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Remove the host's name, which has no business in a shared file."""
    machine_info.pop("node", None)


@pytest.fixture
def measured(benchmark: Any) -> Callable[..., Any]:
    """Return ``measured(function, *arguments)``, a clock for single calls.

    It adds p99, unknown to pytest-benchmark, to ``extra_info``.
    """

    def measure(function: Callable[..., Any], *arguments: Any, rounds: int = 1000) -> Any:
        result = benchmark.pedantic(function, arguments, rounds=rounds, warmup_rounds=WARM_UP)
        if benchmark.stats is not None:  # --benchmark-disable
            benchmark.extra_info["p99_ms"] = round(1000 * float(np.percentile(benchmark.stats.stats.data, 99)), 4)
        return result

    return measure


@pytest.fixture(scope="session")
def face() -> Face:
    """Return the shipped picture and its face."""
    return load_measured_faces(SHIPPED_PICTURE)[0]


@pytest.fixture(scope="session")
def runner() -> Iterator[Runner]:
    """Open the shipped model for up to four faces."""
    with open_runner(max_batch=4) as opened:
        yield opened


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let OpenCV, and detectors that are opened meanwhile, use one thread."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)
