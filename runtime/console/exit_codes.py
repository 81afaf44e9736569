"""Exit codes of all commands of the project, and the one line on stderr for an error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

from runtime.errors import FaceMeshError

# Optional library -> the extra of this distribution that installs it.
EXTRA_OF = {
    "onnxruntime": "cpu",
    "tqdm": "cpu",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "onnxsim": "export",
    "torch": "train",
    "jinja2": "bench",
    "matplotlib": "bench",
    "pynvml": "bench",
    "pytest": "bench",
    "scipy": "bench",
    "skimage": "peers",
    "threadpoolctl": "peers",
    "tensorrt": "trt",
    "tensorrt_lean": "trt",
    "pycuda": "trt",
    "cuda": "trt",
    "tensorrt_rtx": "rtx",
}


def run_subcommands(package: str, description: str, modules: Sequence[ModuleType], argv: Sequence[str] | None) -> int:
    """Run the command line ``argv`` of ``python -m PACKAGE COMMAND …`` and return the exit code.

    Every module has a function ``add_parser(subparsers)`` that sets ``func``; None takes the arguments of the process.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=description)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in modules:
        module.add_parser(subparsers)
    args = parser.parse_args(argv)
    return exit_code_of(lambda: args.func(args))


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Call ``command`` and return its exit code (None is 0).

    `FaceMeshError` and a missing optional library become ``error: ...`` and 1, Ctrl-C becomes one line and 130.
    Anything else is a bug and keeps its traceback.
    """
    try:
        return command() or 0
    except FaceMeshError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in EXTRA_OF:
            raise
        remedy = f"pip install 'facemesh-edge[{EXTRA_OF[library]}]'"
        print(f"error: this needs {library}, which is not installed: {remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
