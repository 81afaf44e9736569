"""Ranges of NVTX: there with the package nvtx, nothing without it."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
from types import ModuleType

import pytest

from benchmarks.gpu.worker import Task, work
from benchmarks.records import ranges


@pytest.fixture(autouse=True)
def fresh_look():
    """Look for the package again, before and after."""
    ranges._is_installed.cache_clear()
    sys.modules.pop("benchmarks.records.nvtx_ranges", None)
    yield
    ranges._is_installed.cache_clear()
    sys.modules.pop("benchmarks.records.nvtx_ranges", None)


def test_parts_of_the_gpu_report_are_ranges(monkeypatch):
    seen = []

    @contextlib.contextmanager
    def annotate(name, domain):
        seen.append(("begin", name, domain))
        try:
            yield
        finally:
            seen.append(("end", name, domain))

    nvtx = ModuleType("nvtx")
    nvtx.__spec__ = importlib.machinery.ModuleSpec("nvtx", None)
    nvtx.annotate = annotate
    monkeypatch.setitem(sys.modules, "nvtx", nvtx)
    (result,) = work([Task("PyTorch", "version", "torch_version", {}, 60)])
    assert result["outcome"] in ("measured", "left out")
    assert seen == [(edge, "PyTorch: version", "facemesh-edge") for edge in ("begin", "end")]


def test_without_the_package_a_range_is_nothing(monkeypatch):
    monkeypatch.setattr(ranges, "find_spec", lambda name: None)
    with ranges.named_range("frame") as found:
        assert found is None
