"""Command-line arguments for labelled faces."""

from __future__ import annotations

import argparse
from pathlib import Path

LANDMARKS_FROM_HELP = "network that finds landmarks first, for a model that takes them beside the picture"


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--data`` and ``--face-model``, for every command that calls `load_faces`."""
    data_help = "labelled faces: common stem of .tar and .npz, or a folder in the 300W-LP layout"
    parser.add_argument("--data", type=Path, required=True, help=data_help)
    model_help = "npz of the face model (default: face_model.npz beside the data)"
    parser.add_argument("--face-model", type=Path, help=model_help)
