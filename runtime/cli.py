"""How every command of the project ends: an exit code, and one line on stderr where something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
    "matplotlib": "train",
    "scipy": "train",
    "skimage": "peers",
    "tensorrt": "trt",
    "tensorrt_lean": "trt",
    "pycuda": "trt",
    "cuda": "trt",
    "tensorrt_rtx": "rtx",
}


def run_guarded(command: Callable[[], int | None]) -> int:
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
        print(f"error: this needs {library}, which is not installed: pip install 'facemesh-edge[{EXTRA_OF[library]}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 130
