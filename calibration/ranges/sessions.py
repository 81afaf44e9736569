"""ONNX Runtime for models that are still in memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.cores import usable_cores
from runtime.errors import FaceMeshError


class Session:
    """A model of one input, for one picture at a time."""

    def __init__(self, model: bytes, outputs: Sequence[str], threads: int | None = None) -> None:
        """``model`` is a serialised ONNX model. Raises `FaceMeshError` when ONNX Runtime cannot load it."""
        from runtime.inference.onnx_runner import MOST_THREADS, open_session

        self._session = open_session(model, threads or min(MOST_THREADS, usable_cores()))
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
