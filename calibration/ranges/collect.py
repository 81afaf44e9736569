"""Collect histograms and means of a model's activations on crops. One picture at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.ranges.histograms import Histogram
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, eq=False)
class ActivationStatistics:
    """Figures of activations by the name of the tensor."""

    histograms: dict[str, Histogram]
    means: dict[str, NDArray[np.float64]]  # of each channel (C,)


def collect(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    images: Iterable[NDArray[np.float32]],
    total: int,
    *,
    averaged: Sequence[str] = (),
    threads: int | None = None,
) -> ActivationStatistics:
    """Run ``model`` on ``total`` images (1, …); count the float32 ``tensors``, average the channels of ``averaged``.

    Channels are on axis 1. Raises `FaceMeshError` naming the first of ``tensors`` with NaN or infinity.
    """
    from calibration.ranges.sessions import Session, with_outputs
    from runtime.console.progress import progress_bar

    # The model's inputs are known; all other tensors become outputs.
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in dict.fromkeys([*tensors, *averaged]) if name not in inputs]
    session = Session(with_outputs(model, inner).SerializeToString(), inner, threads)

    histograms = {name: Histogram() for name in tensors}
    sums: dict[str, NDArray[np.float64] | float] = dict.fromkeys(averaged, 0.0)
    for number, image in enumerate(progress_bar(images, total, "crop")):
        values = dict(zip(inner, session(image), strict=True)) | dict.fromkeys(inputs, image)
        for name in tensors:
            try:
                histograms[name].add(values[name])
            except ValueError as error:
                problem = f"crop {number}: the tensor {name} holds {error}"
                raise FaceMeshError(f"{problem}; the model or its input is broken, export it again") from None
        for name in averaged:
            channels = values[name][0].reshape(values[name].shape[1], -1)
            sums[name] = sums[name] + channels.mean(axis=1, dtype=np.float64)
    return ActivationStatistics(histograms, {name: values / total for name, values in sums.items()})
