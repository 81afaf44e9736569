"""A ``runtime`` that needs no compiler, as quick or slow as it is told, for `benchmarks.regression.frame_worker`."""

from __future__ import annotations

from pathlib import Path

PACKAGE = """
import os
import time
from types import SimpleNamespace

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None  # at import

def busy(microseconds):
    end = time.perf_counter_ns() + 1000 * microseconds
    while time.perf_counter_ns() < end:
        pass

class Runner:
    spec = SimpleNamespace(topology="", crop_scale=1.5, input=SimpleNamespace(size=8))
    input = [None]
    def infer(self, n):
        assert n == 1
        busy(200)
        return [None]
    def __enter__(self):
        return self
    def __exit__(self, *_):
        print("closed")  # what libraries print must not get into the answers

def open_runner(model, max_batch, threads):
    print("opened", model, max_batch, threads)
    assert max_batch == 1
    assert CORES is None or len(CORES) == threads
    return Runner()

def load_topology(name):
    return None

class Decoder:
    def __init__(self, topology, spec):
        pass
    def __call__(self, position_map, matrix):
        busy({decode})

class FaceMeshPipeline:
    def __init__(self, runner):
        self.runner, self.decode = runner, Decoder(None, None)
    def from_boxes(self, image, boxes):
        assert image.shape == (4, 5, 3) and boxes.shape == (1, 4)
        self.decode(self.runner.infer(1)[0], None)
"""
CROP = """
from runtime import busy

def crop_matrix(box, crop_scale, size):
    return box

def crop_into(image, matrix, spec, out):
    busy(50)
"""


def write_runtime(root: Path, decode: float = 100) -> Path:
    """A folder that holds a ``runtime`` whose decode takes ``decode`` microseconds."""
    (root / "runtime").mkdir(parents=True)
    (root / "runtime" / "__init__.py").write_text(PACKAGE.replace("{decode}", str(decode)))
    (root / "runtime" / "crop.py").write_text(CROP)
    return root
