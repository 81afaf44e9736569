"""``python -m benchmarks COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import accuracy, int8, peers, rewrites
from runtime.cli import run_guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure accuracy and latency.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (accuracy, int8, peers, rewrites):
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    return run_guarded(lambda: args.func(args))


if __name__ == "__main__":
    sys.exit(main())
