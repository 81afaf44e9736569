"""The benchmark of a Triton server; the real server is in tests/export/handover."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.serving.processor_time import processor_time_s
from runtime.errors import FaceMeshError
from runtime.models.shipped import SHIPPED_PICTURE

pytest.importorskip("onnxruntime")


@pytest.fixture
def load(monkeypatch):
    """A module of clients that takes the place of the one with tritonclient."""

    class Client:
        def __init__(self, *_):
            pass

        def check(self):
            if load.problem:
                raise FaceMeshError(load.problem)

        def close(self):
            pass

    load = ModuleType("benchmarks.serving.triton_load")
    load.problem, load.failed = "", 0
    load.Client = Client
    load.served_latencies = lambda *arguments: (np.array([0.01] * 99 + [0.5]), 2.0, load.failed)
    monkeypatch.setitem(sys.modules, load.__name__, load)
    return load


COMMAND = ["triton", "--source", str(SHIPPED_PICTURE), "--seconds", "0.1", "--rounds", "2", "--clients", "1", "8"]


def test_rates_and_percentiles_are_those_of_all_rounds(load, capsys):
    assert main(COMMAND) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[1:]] == [["in", "process"], ["1", "client,"], ["8", "clients,"]]
    rate, p50, p99, core, failed = lines[2][3:]
    assert core == "–"
    assert 0 < float(lines[1][5]) < 2000
    assert (float(rate), float(p50), float(p99), failed) == (50.0, 10.0, pytest.approx(14.9, abs=5), "0")


def test_failed_requests_and_missing_servers_are_told(load, capsys):
    load.failed = 3
    assert main(COMMAND) == 1
    assert capsys.readouterr().out.splitlines()[2].split()[-1] == "6"
    load.problem = "no server answers"
    assert main(COMMAND) == 1
    assert "error: no server answers" in capsys.readouterr().err


def test_processor_time_is_that_of_the_children_too():
    busy = "import time\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"1\n"
        assert 0.3 <= processor_time_s(process.pid) < 3
    finally:
        process.communicate(b"\n")
    with pytest.raises(FaceMeshError, match="no such process"):
        processor_time_s(process.pid)
