"""ONNX Runtime for models that are still in memory. Home module of ONNX Runtime here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.inference.onnx_runner import MOST_THREADS, session_options, usable_cores


class Session:
    """A model of one input, for one picture at a time."""

    def __init__(self, model: bytes, outputs: Sequence[str], threads: int | None = None) -> None:
        """``model`` is a serialised ONNX model. Raises `FaceMeshError` when ONNX Runtime cannot load it."""
        try:
            options = session_options(threads or min(MOST_THREADS, usable_cores()))
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise FaceMeshError(f"ONNX Runtime cannot load the model ({' '.join(str(error).split())[:300]}); export it again") from error
        (tensor,) = self._session.get_inputs()
        self._input, self._batch = tensor.name, tensor.shape[0] if isinstance(tensor.shape[0], int) else 1
        self._outputs = list(outputs)

    def __call__(self, image: NDArray[np.float32]) -> list[NDArray]:
        """(1, …) -> the outputs; a model of a fixed batch size gets the picture as often as it wants and its first answer counts."""
        try:
            results = self._session.run(self._outputs, {self._input: np.repeat(image, self._batch, axis=0)})
        except Exception as error:
            raise FaceMeshError(f"the model does not run in ONNX Runtime ({' '.join(str(error).split())[:300]}); export it again") from error
        return [result[:1] for result in results] if self._batch > 1 else results
