"""What the activations of a model hold on crops. One picture is in memory at a time, whatever their number."""

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
class Collected:
    """By name of the tensor."""

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
) -> Collected:
    """Run ``model`` on every image (1, …), count what the float32 ``tensors`` hold and average the channels, on axis 1, of those ``averaged``.

    Raises `FaceMeshError` naming the first tensor, in the order given, that holds NaN or infinity.
    """
    from calibration.precision.model_file import with_outputs
    from calibration.ranges.sessions import Session
    from runtime.console.progress import progress_bar

    inputs = {value.name for value in model.graph.input}
    inner = [name for name in dict.fromkeys([*tensors, *averaged]) if name not in inputs]
    histograms, sums = {name: Histogram() for name in tensors}, dict.fromkeys(averaged, 0.0)
    session = Session(with_outputs(model, inner).SerializeToString(), inner, threads)
    for number, image in enumerate(progress_bar(images, total, "crop")):
        values = dict(zip(inner, session(image), strict=True)) | dict.fromkeys(inputs, image)
        for name in tensors:
            try:
                histograms[name].add(values[name])
            except ValueError as error:
                raise FaceMeshError(f"crop {number}: the tensor {name} holds {error}; the model or its input is broken, export it again") from None
        for name in averaged:
            sums[name] = sums[name] + values[name][0].reshape(values[name].shape[1], -1).mean(axis=1, dtype=np.float64)
    return Collected(histograms, {name: total_of / total for name, total_of in sums.items()})
