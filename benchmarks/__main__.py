"""Entry point of ``python -m benchmarks COMMAND``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.accuracy import accuracy, int8
from benchmarks.films import jitter, tracking
from benchmarks.gpu import gpu_report
from benchmarks.latency import rewrites, run, soak
from benchmarks.library import library
from benchmarks.peers import peers
from benchmarks.regression import compare
from benchmarks.report import report
from benchmarks.robustness import robustness
from benchmarks.roofline import roofline
from benchmarks.serving import triton
from runtime.console.exit_codes import run_subcommands


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code."""
    films = (tracking, jitter)
    tables = (int8, peers, report, rewrites, roofline, gpu_report, triton, library)
    commands = (run, compare, soak, accuracy, robustness, *films, *tables)
    return run_subcommands("benchmarks", "Measure accuracy and latency.", commands, argv)


if __name__ == "__main__":
    sys.exit(main())
