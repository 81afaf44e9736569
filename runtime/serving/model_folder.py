"""A folder with the forms of one model: an ONNX file, or engines of which each runs on another kind of GPU."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.cuda.driver import find_device
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import BACKENDS
from runtime.models.manifest import EngineManifest

DETECTOR = "detector"  # the folder with the forms of a detector, beside the network's


def model_in(folder: Path) -> Path:
    """Return the model file of ``folder``; of several engines the one for this machine's device.

    Raises `FaceMeshError` if there is none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in BACKENDS)
    if not files:
        raise FaceMeshError(f"{folder}: no model file in it; write it again with 'python -m export triton'")
    if len(files) == 1:
        return files[0]
    device = find_device()
    if device is None:
        raise FaceMeshError(f"{folder}: holds engines, and no CUDA device is found here; start the server with a GPU")
    fitting = [file for file in files if EngineManifest.load(EngineManifest.path_for(file)).runs_on(device)]
    if not fitting:
        here = f"{device.name} of compute capability {device.compute_capability}"
        raise FaceMeshError(f"{folder}: no engine for {here}; build one there and write the folder again with all")
    return fitting[0]


def show_one_device(number: int) -> None:
    """Let this process see the CUDA device ``number`` alone, of the ones that it may see; before its first use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name.strip() for name in visible.split(",")] if visible else []
    os.environ["CUDA_VISIBLE_DEVICES"] = names[number] if number < len(names) else str(number)
