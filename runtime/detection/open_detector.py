"""Open a detector's file: an engine on the GPU, or an .onnx through ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.models.file_kinds import ENGINE_SUFFIXES, refuse_other_kind


def open_detector(
    model: str | os.PathLike[str] | None = None,
    *,
    score_threshold: float = 0.6,
    max_faces: int | None = None,
    side: int | None = None,
    sync: str = "spin",
    trust_engine: bool = False,
    provider: str | None = None,
) -> YuNetDetector:
    """Open a file of ``python -m export detector`` or an engine of one; None is the shipped detector on the CPU.

    ``score_threshold``, ``max_faces`` and ``side`` as for `YuNetDetector`. ``sync`` ("spin" or "block") and
    ``trust_engine`` are for engines (.engine, .plan, .trt), ``provider`` for .onnx files, as for
    `runtime.open_runner`. Pictures beyond the model's size are searched by the shipped detector. Raises
    `FaceMeshError` if the file or its spec is missing or of another kind, or the library is not installed.
    """
    if model is None:
        return YuNetDetector(score_threshold, max_faces, side)
    path = Path(model)
    if not path.is_file():
        problem = "no detector there; check the path, or leave it out for the shipped one"
        raise FaceMeshError(f"{path}: {problem}")
    refuse_other_kind(path, "model")
    suffix = path.suffix.lower()
    if suffix in ENGINE_SUFFIXES:
        if provider is not None:
            raise FaceMeshError(f"{path}: an engine, and the provider {provider} of ONNX Runtime runs .onnx models")
        from runtime.detection.gpu_yunet import open_gpu_yunet

        return YuNetDetector(
            score_threshold, max_faces, side, open_gpu_yunet(path, score_threshold, sync, trust_engine)
        )
    if suffix != ".onnx":
        raise FaceMeshError(f"{path}: no detector runs {suffix or 'files without a suffix'}; give an .onnx or .engine")
    from runtime.detection.fixed_size import FixedSizeYuNet

    try:
        network = FixedSizeYuNet(path, score_threshold, provider)
    except ModuleNotFoundError as error:
        remedy = "pip install 'facemesh-edge[cpu]'"
        raise FaceMeshError(f"{path}: running it needs {error.name}, which is not installed; {remedy}") from error
    return YuNetDetector(score_threshold, max_faces, side, network)
