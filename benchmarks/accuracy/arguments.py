"""Command-line arguments that name labelled faces."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """``--data`` and ``--face-model``, for every command that calls `load_faces`."""
    parser.add_argument("--data", type=Path, required=True, help="common stem of .tar and .npz with labelled faces")
    parser.add_argument("--face-model", type=Path, help="npz of the face model (default: face_model.npz beside the data)")
