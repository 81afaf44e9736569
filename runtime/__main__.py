"""``facemesh COMMAND …`` and ``python -m runtime COMMAND …``: all commands of the project behind one name.

The installed ``facemesh`` works in any folder; ``python -m runtime.run`` would take a folder called runtime before it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import runtime
from runtime.console.exit_codes import exit_code_of

COMMANDS = {
    "run": ("runtime.run", "face meshes of photos, folders, films and cameras"),
    "batch": ("runtime.batch", "faces of whole archives as Parquet, on one machine or a Ray cluster"),
    "swap": ("runtime.swap", "the face of one photo on the head of another"),
    "export": ("export.__main__", "a checkpoint or a foreign model as ONNX, an engine; inspect"),
    "calibrate": ("calibration.__main__", "an ONNX model in INT8"),
    "train": ("training.__main__", "networks, labels, assets"),
    "bench": ("benchmarks.__main__", "latency, accuracy, robustness, peers, devices"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command with the rest of ``argv``; return its exit code, 2 for an unknown one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return exit_code_of(lambda: import_module(COMMANDS[arguments[0]][0]).main(arguments[1:]))
    return exit_code_of(lambda: _without_command(arguments))


def _without_command(arguments: list[str]) -> int:
    asked = arguments[:1]
    if asked in (["--version"], ["-V"]):
        print(f"facemesh-edge {runtime.__version__}")
    elif asked in (["--help"], ["-h"]):
        print(_help())
    else:
        print(f"error: no command {' '.join(asked) or 'given'}\n{_help()}", file=sys.stderr)
        return 2
    return 0


def _help() -> str:
    lines = (f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())
    return "\n".join(["usage: facemesh COMMAND …, facemesh COMMAND --help, facemesh --version", *lines])


if __name__ == "__main__":
    sys.exit(main())
