"""``python -m training COMMAND``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime.console.exit_codes import run_subcommands
from training import average, fit, fit_box_map, shrink
from training.confidence import fit_confidence
from training.eyes import fit_eyes
from training.labelling import fit_labels, learn_offsets
from training.turning import turn_faces
from training.uv import uv_layout

COMMANDS = (
    *(fit, fit_confidence, fit_eyes, average, shrink, uv_layout),
    *(fit_box_map, turn_faces, fit_labels, learn_offsets),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code."""
    return run_subcommands("training", "Train networks, make the assets of the runtime.", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
