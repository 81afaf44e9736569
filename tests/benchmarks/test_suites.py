"""The pytest-benchmark suites run, and keep what pytest-benchmark itself does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark", reason="needs pytest-benchmark")


def run_suites(repository: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # not a worker's
    done = subprocess.run(command, cwd=repository, env=alone, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_suite_runs(repository):
    assert "19 passed" in run_suites(repository, "benchmarks/suites", "--benchmark-disable")


def test_p99_is_kept_and_the_host_is_not(repository, tmp_path):
    out = tmp_path / "out.json"
    run_suites(repository, "benchmarks/suites/bench_decode.py", f"--benchmark-json={out}")
    document = json.loads(out.read_text())
    assert len(document["benchmarks"]) == 2
    for one in document["benchmarks"]:
        assert one["stats"]["rounds"] == 1000
        assert 1000 * one["stats"]["median"] <= one["extra_info"]["p99_ms"] <= 1000 * one["stats"]["max"]
    assert "node" not in document["machine_info"]
