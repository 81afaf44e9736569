"""``python -m export COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.cli import run_guarded
from training.networks import NETWORK_NAMES


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m export", description="From a trained checkpoint to a model that the runtime takes.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    onnx = subparsers.add_parser("onnx", help="write ONNX and its spec", description="Checkpoint of a training run -> ONNX and its spec beside it.")
    onnx.add_argument("--arch", choices=NETWORK_NAMES, required=True)
    onnx.add_argument("--weights", type=Path, required=True, help="last.pt or best.pt of a run")
    onnx.add_argument("-o", "--output", type=Path, required=True, help="model.onnx; the spec becomes model.onnx.json")
    onnx.set_defaults(func=_onnx)
    args = parser.parse_args(argv)
    return run_guarded(lambda: args.func(args))


def _onnx(args: argparse.Namespace) -> None:
    from export.to_onnx import export_checkpoint

    difference_px = export_checkpoint(args.arch, args.weights, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.1f} MB; ONNX Runtime and PyTorch differ by {difference_px:.2g} px of the crop at most")


if __name__ == "__main__":
    sys.exit(main())
