"""``python -m training COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runtime.cli import run_guarded
from training import fit, fit_box_map, shrink, uv_layout


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train networks, make the assets of the runtime.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (fit, shrink, uv_layout, fit_box_map):
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    return run_guarded(lambda: args.func(args))


if __name__ == "__main__":
    sys.exit(main())
