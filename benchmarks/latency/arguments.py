"""Command-line arguments of latency measurements."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.console.arguments import positive_int
from runtime.models.shipped import SHIPPED_PICTURE

FACE_MODEL_HELP = "of a network of coefficients (default: the one that its .json names, or beside the model)"


def add_measurement_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the engine, its face model, the picture and the threads, for every command that measures latencies."""
    add = parser.add_argument
    add("--engine", type=Path, metavar="MODEL", help=".onnx or an engine; default: the shipped model")
    add("--face-model", type=Path, metavar="FILE.npz", help=FACE_MODEL_HELP)
    source_help = "photo, folder or film; default: the shipped picture"
    add("--source", type=Path, default=SHIPPED_PICTURE, metavar="FILE", help=source_help)
    threads_help = "of network and OpenCV (default: what they choose themselves)"
    add("--threads", type=positive_int, metavar="N", help=threads_help)


def stage_list(text: str) -> list[str] | None:
    """Convert names with commas between, the type of ``--stages``; None means all."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise argparse.ArgumentTypeError("is empty; leave it out for all stages")
    return None if names == ["all"] else names
