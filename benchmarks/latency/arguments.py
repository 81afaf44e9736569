"""Command-line arguments of latency measurements."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.console.arguments import positive_int
from runtime.models.shipped import SHIPPED_PICTURE


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    """What is measured, on which picture and with how many threads: for every command that measures latencies."""
    parser.add_argument("--engine", type=Path, metavar="MODEL", help=".onnx or an engine; default: the shipped model")
    parser.add_argument("--source", type=Path, default=SHIPPED_PICTURE, metavar="FILE", help="photo, folder or film; default: the shipped picture")
    parser.add_argument("--threads", type=positive_int, metavar="N", help="of network and OpenCV (default: what they choose themselves)")


def stage_list(text: str) -> list[str] | None:
    """Type of ``--stages``; None is all."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("is empty; leave it out for all stages")
    return None if names == ["all"] else names
