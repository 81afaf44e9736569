"""``python -m benchmarks COMMAND``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import accuracy, compare, gpu_report, int8, peers, report, rewrites, roofline, run, soak
from runtime.cli import run_subcommands


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    commands = (run, compare, soak, accuracy, int8, peers, report, rewrites, roofline, gpu_report)
    return run_subcommands("benchmarks", "Measure accuracy and latency.", commands, argv)


if __name__ == "__main__":
    sys.exit(main())
