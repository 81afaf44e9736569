"""Calls of the system, of ONNX Runtime and of the device that fail once; ``make faults`` tries all of them."""

from __future__ import annotations

import subprocess
import sys

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
    of_all = {"open", "read", "write", "rename", "fsync", "memory", "inference"}
    assert kinds == (of_all | {"device"} if scenario == "engine" else of_all)


def test_lanes_share_the_calls(library):
    """Two processes let as many calls fail as one does."""
    report = let_calls_fail("pictures", library, 3, ["rename"], lanes=2)
    check(report)
    assert report["tried"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [60, 90, 120, 300])
def test_a_lack_of_memory_while_a_picture_is_decoded(megabytes, tmp_path):
    """OpenCV's binding wants 72 MB twice: a real lack of memory, unlike one failed allocation, ends in one line."""
    script = f"""
import resource
import cv2, numpy as np
from runtime.errors import FaceMeshError
from runtime.sources.photos import decode_photo
cv2.setNumThreads(1)
encoded = [cv2.imencode(".jpg", np.zeros((side, side + side // 2, 3), np.uint8))[1].tobytes() for side in (8, 4000)]
decode_photo(encoded[0], "small.jpg")
held = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (held + ({megabytes} << 20),) * 2)
try:
    print(decode_photo(encoded[1], "large.jpg").shape)
except FaceMeshError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    expected = "large.jpg: cannot be decoded" if megabytes < 144 else "(4000, 6000, 3)"
    assert run.stdout.startswith(expected)
