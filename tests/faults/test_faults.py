"""Calls of the system, of ONNX Runtime and of the device that fail once; ``make faults`` tries all of them."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("torch", reason="needs torch")

from tests.faults.preloaded import build_library, compiler, let_calls_fail
from tests.faults.scenarios import SCENARIOS

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs Linux and a C compiler, for a library to preload")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build_library(tmp_path_factory.mktemp("library"))


def check(report):
    assert report["defects"] == []
    assert report["tried"] > report["unnoticed"]


def test_writing_fails_in_a_run(library):
    """The first call of each kind."""
    report = let_calls_fail("pictures", library, 1, ["write", "rename", "fsync", "inference"])
    check(report)
    assert report["tried"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_fail(library, scenario):
    """Some calls of every kind."""
    report = let_calls_fail(scenario, library, 4)
    check(report)
    kinds = {kind for kind, count in report["counts"].items() if count}
    assert kinds == {"open", "read", "write", "rename", "fsync"} | (
        {"device"} if scenario == "engine" else {"memory", "inference"}
    )
