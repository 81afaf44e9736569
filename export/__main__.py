"""``python -m export COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from export import engine_command, inspect_command, onnx_command
from runtime.cli import run_guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export", description="From a trained checkpoint to a model that the runtime takes.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (onnx_command, engine_command, inspect_command):
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    return run_guarded(lambda: args.func(args))


if __name__ == "__main__":
    sys.exit(main())
