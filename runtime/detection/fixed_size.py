"""YuNet's network of one size through ONNX Runtime, and the network that takes the pictures beyond such a size."""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.detection.pictures import HostNetwork
from runtime.detection.yunet import open_on_cpu
from runtime.detection.yunet_rows import face_rows
from runtime.errors import FaceMeshError, reason
from runtime.models.detector_spec import STRIDES, load_detector_spec


class CpuSubstitute(HostNetwork):
    """The shipped network on the CPU, opened when a picture is too large for a network of one size."""

    def __init__(self, path: Path, size_wh: tuple[int, int], score_threshold: float) -> None:
        """Stand in for the model ``path`` of ``size_wh`` px."""
        self._path = path
        self._size_wh = size_wh
        self._score_threshold = score_threshold
        self._network: HostNetwork | None = None

    def is_needed(self, size_wh: tuple[int, int]) -> bool:
        """Return True for a picture that is wider or higher than the model's; warn at the first."""
        if size_wh[0] <= self._size_wh[0] and size_wh[1] <= self._size_wh[1]:
            return False
        if self._network is None:
            self._network = open_on_cpu(self._score_threshold)
            (width, height), step = size_wh, STRIDES[-1]
            wanted = f"{-(-width // step) * step}x{-(-height // step) * step}"
            here = "x".join(map(str, self._size_wh))
            warnings.warn(
                f"{self._path}: searches of {width} x {height} px do not fit the detector's {here} and run on the "
                f"shipped one on the CPU; for speed make one of --size {wanted} with 'python -m export detector'",
                RuntimeWarning,
                stacklevel=2,
            )
        return True

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of ``image``; see `HostNetwork`."""
        if self._network is None:
            self._network = open_on_cpu(self._score_threshold)
        return self._network(image)


class FixedSizeYuNet(HostNetwork):
    """An .onnx detector of one size, on the CPU or by a provider of ONNX Runtime."""

    def __init__(self, path: Path, score_threshold: float, provider: str | None = None) -> None:
        """Open the file by the spec beside it.

        Raises `FaceMeshError`, and `ModuleNotFoundError` where ONNX Runtime is not installed.
        """
        from runtime.inference.onnx_runner import open_detector_session

        self._spec = load_detector_spec(path)
        self._path = path
        self._session = open_detector_session(path, self._spec, max(1, cv2.getNumThreads()), provider)
        self._score_threshold = score_threshold
        size_wh = self._spec.input.width, self._spec.input.height
        self._substitute = CpuSubstitute(path, size_wh, score_threshold)
        self._dtype = np.float16 if self._session.get_inputs()[0].type == "tensor(float16)" else np.float32

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of ``image``, black beside it; beyond the model's size the CPU's network looks."""
        height, width = image.shape[:2]
        if self._substitute.is_needed((width, height)):
            return self._substitute(image)
        planes = np.zeros((1, *self._spec.input.shape), self._dtype)
        planes[0, :, :height, :width] = image.transpose(2, 0, 1)
        try:
            levels = self._session.run(list(self._spec.levels), {self._spec.input.name: planes})
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            fault = f"the detector does not run ({reason(error)})"
            raise FaceMeshError(f"{self._path}: {fault}; export it again") from error
        return face_rows(levels, self._score_threshold)
