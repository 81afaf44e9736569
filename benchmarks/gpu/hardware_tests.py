"""A part of `benchmarks.gpu.gpu_report`: the tests marked ``gpu``."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec

from benchmarks.gpu.summary import TESTS
from benchmarks.gpu.worker import Result, new_result
from benchmarks.records.provenance import REPOSITORY

TESTS_S, QUICK_TESTS_S = 600, 60
MOST_LINES = 20  # of the tests' output


def gpu_tests(limit_s: float) -> Result:
    """Run the tests marked ``gpu`` if this is a checkout that has them; their counts are the facts."""
    # Find their files.
    paths = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    files = [str(path) for path in paths if "mark.gpu" in path.read_text(encoding="utf-8")]
    if not files or find_spec("pytest") is None:
        missing = "pytest is not installed" if files else "there is no folder tests beside benchmarks"
        return new_result("Tests", TESTS, "left out", f"{missing}; run this in a checkout with the extra dev")
    # Run them within the limit.
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--color=no", "-p", "no:cacheprovider", *files]
    print("running the tests marked gpu", flush=True)
    try:
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=REPOSITORY, timeout=limit_s, **output)
    except subprocess.TimeoutExpired:
        reason = f"not done within {limit_s:g} s, so they were stopped; without --quick they have {TESTS_S} s"
        return new_result("Tests", TESTS, "failed", reason)
    # Read the counts.
    lines = done.stdout.decode(errors="replace").strip().splitlines() or ["pytest said nothing"]
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", lines[-1])}
    notes = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))][:MOST_LINES]
    outcome = "measured" if done.returncode == 0 else "failed"
    reason = "" if outcome == "measured" else f"pytest ended with {done.returncode}: {lines[-1].strip('= ')}"
    return new_result("Tests", TESTS, outcome, reason, facts=counts, notes=notes)
