"""Run models that are still in memory in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from runtime.cores import usable_cores
from runtime.errors import FaceMeshError, one_line


class Session:
    """A model of one input, for one picture at a time."""

    def __init__(self, model: bytes, outputs: Sequence[str], threads: int | None = None) -> None:
        """Load a serialised ONNX model. Raises `FaceMeshError` if ONNX Runtime cannot."""
        from runtime.inference.onnx_runner import MOST_THREADS, open_session

        self._session = open_session(model, threads or min(MOST_THREADS, usable_cores()))
        (tensor,) = self._session.get_inputs()
        self._input = tensor.name
        self._batch = tensor.shape[0] if isinstance(tensor.shape[0], int) else 1
        self._outputs = list(outputs)

    def __call__(self, image: NDArray[np.float32]) -> list[NDArray]:
        """Return the outputs for an image (1, …).

        A model of a fixed batch size gets the image as often as that, and its first answer counts.
        """
        try:
            results = self._session.run(self._outputs, {self._input: np.repeat(image, self._batch, axis=0)})
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            problem = f"the model does not run in ONNX Runtime ({one_line(error)})"
            raise FaceMeshError(f"{problem}; export it again") from error
        return [result[:1] for result in results] if self._batch > 1 else results


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """Return a copy of ``model`` that puts out the named tensors too."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    have = {value.name for value in extended.graph.output}
    extended.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in tensors if name not in have)
    return extended
