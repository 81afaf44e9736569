"""``python -m training average``: one edge network from several that were trained from the same start.

The mean of their weights is often better than the best of them ("model soups", Wortsman et al., ICML 2022), and takes
no more time to run. Networks of different starts have nothing in common: their mean is useless. So validate the result
(``python -m benchmarks accuracy --rows validation``) before it is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.errors import FaceMeshError


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    text = __doc__.partition("\n\n")
    parser = subparsers.add_parser("average", help="average trained networks", description=text[0], epilog=text[2])
    parser.add_argument(
        "--weights", type=Path, nargs="+", required=True, metavar="FILE.onnx", help="FP32 exports of edge networks"
    )
    parser.add_argument(
        "--shares",
        type=_shares,
        metavar="S,S,...",
        help="one positive number for each file, in any unit; default: all alike",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint for 'python -m export onnx'")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Read, average, write."""
    from training.averaging import save_average

    shares = args.shares or [1.0] * len(args.weights)
    if len(shares) != len(args.weights) or len(shares) < 2:
        raise FaceMeshError(
            f"average: {len(args.weights)} files and {len(shares)} shares; give two files at least, a share for each"
        )
    save_average(dict(zip(args.weights, shares, strict=True)), args.output)
    print(f"{args.output}: mean of {len(shares)} networks")


def _shares(text: str) -> list[float]:
    """``1,2.5`` -> numbers."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < float("inf") for share in shares):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of positive numbers, as in 1,2,0.5")
    return shares
