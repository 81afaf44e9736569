"""Tell ONNX models, engines and checkpoints apart, so that one in the place of another ends with the right command."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import FaceMeshError
from runtime.storage.bounded_files import open_bounded

ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar", ".index")
ENGINE_MARKS = (b"ftrt", b"ptrt")  # the first bytes of TensorRT's files
CHECKPOINT_MARKS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04")  # of PyTorch's archives and pickles
ONNX_MARK = b"\x08"  # field 1, ir_version, a number


def refuse_other_kind(path: Path, wanted: str) -> None:
    """Raise `FaceMeshError` with the right command for a file that exists and is surely of another kind.

    ``wanted`` is "onnx", "engine" or "model", which is either of them.
    """
    kind = _kind(path)
    if kind == "checkpoint":
        made = path.with_suffix(".onnx")
        raise FaceMeshError(
            f"{path}: a checkpoint; first 'python -m export onnx --arch NETWORK --weights {path} -o {made}'"
        )
    if kind == "engine" and (wanted == "onnx" or path.suffix.lower() == ".onnx"):
        raise FaceMeshError(f"{path}: an engine, not an ONNX model; give the .onnx that it was built from")
    if kind == "onnx" and (wanted == "engine" or path.suffix.lower() in ENGINE_SUFFIXES):
        name, engine = path.with_suffix(".onnx"), path.with_suffix(".engine")
        problem = "an ONNX model, not an engine"
        raise FaceMeshError(f"{path}: {problem}; 'python -m export engine {name} -o {engine}' builds one on the device")


def _kind(path: Path) -> str | None:
    """Return the kind by the first bytes, else by the suffix; None for a missing, special or unknown file."""
    try:
        with open_bounded(path, None) as file:
            mark = file.read(4)
    except OSError:
        return None
    if mark.startswith(ENGINE_MARKS):
        return "engine"
    if mark.startswith(CHECKPOINT_MARKS):
        return "checkpoint"
    suffix = path.suffix.lower()
    if mark.startswith(ONNX_MARK) and suffix in (".onnx", *ENGINE_SUFFIXES):
        return "onnx"
    return "checkpoint" if suffix in CHECKPOINT_SUFFIXES else None
