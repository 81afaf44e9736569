"""Histograms of the activations of a model on crops. One picture is in memory at a time, whatever their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.histograms import Histogram
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx


def collect(
    model: onnx.ModelProto, tensors: Sequence[str], images: Iterable[NDArray[np.float32]], total: int, threads: int | None = None
) -> dict[str, Histogram]:
    """Run ``model`` on every image (1, …) and count what the named float32 tensors hold.

    Raises `FaceMeshError` naming the first tensor, in the order given, that holds NaN or infinity.
    """
    from calibration.model_file import with_outputs
    from calibration.sessions import Session
    from runtime.progress import progress_bar

    inputs = {value.name for value in model.graph.input}
    inner = [name for name in tensors if name not in inputs]
    histograms = {name: Histogram() for name in tensors}
    session = Session(with_outputs(model, inner).SerializeToString(), inner, threads)
    for number, image in enumerate(progress_bar(images, total, "crop")):
        for name, values in [*((name, image) for name in tensors if name in inputs), *zip(inner, session(image), strict=True)]:
            try:
                histograms[name].add(values)
            except ValueError as error:
                raise FaceMeshError(f"crop {number}: the tensor {name} holds {error}; the model or its input is broken, export it again") from None
    return histograms
