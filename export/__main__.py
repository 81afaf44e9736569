"""``python -m export COMMAND``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from export.commands import (
    deepstream_command,
    detector_command,
    engine_command,
    face_model_command,
    inspect_command,
    onnx_command,
    ros2_command,
    triton_command,
)
from runtime.console.exit_codes import run_subcommands

COMMANDS = (
    onnx_command,
    engine_command,
    inspect_command,
    face_model_command,
    detector_command,
    deepstream_command,
    triton_command,
    ros2_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns the exit code."""
    return run_subcommands(
        "export",
        "From a trained checkpoint to a model that the runtime takes.",
        COMMANDS,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
