"""Find the layers that half precision does not hold, by their values, or that lose most in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from calibration.precision.graph_view import LAYERS
from calibration.precision.half_rounding import with_rounding
from calibration.quantise import MAX_SHIFT
from export.graphs.fp16 import to_fp16
from export.graphs.verify import Outputs, decode_all, run_feeds, run_outputs
from runtime.console.terminal import print_line
from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec

LARGEST_HALF = float(np.finfo(np.float16).max)
OUTPUTS_AT_ONCE = 32  # values of that many nodes are in memory
MOST_NAMES = 5


def overflowing(
    model: onnx.ModelProto, images: NDArray[np.float32], heavy: Mapping[str, NDArray] | None = None
) -> dict[str, str]:
    """Return node -> reason for the nodes of an FP32 model whose values half precision cannot hold, and their readers.

    The values are those of ``images`` (N, …); ``heavy`` as in `export.graphs.verify.run_outputs`.
    """
    peaks = _peaks(model, images, heavy or {})
    beyond = {name: peak for name, peak in peaks.items() if peak > LARGEST_HALF}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Constant":
            continue
        made = [beyond[name] for name in node.output if name in beyond]
        taken = [beyond[name] for name in node.input if name in beyond]
        if made:
            found[node.name] = f"it reaches {max(made):.3g}, half precision ends at {LARGEST_HALF:.0f}"
        elif taken:
            found[node.name] = f"it takes values up to {max(taken):.3g}, half precision ends at {LARGEST_HALF:.0f}"
    return found


def require_small_shift(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    expected: Outputs,
    half: Outputs,
    spec: ModelSpec,
    limit: float | None,
) -> None:
    """Raise `FaceMeshError` if half precision moves the landmarks by more than ``limit`` px of the crop on average.

    The limit None is `calibration.quantise.MAX_SHIFT` of the crop's side. ``expected`` and ``half`` are outputs on
    ``images`` (N, …) by the FP32 ``model`` and in half precision. The error names the layers that lose most.
    """
    limit = MAX_SHIFT * spec.input.size if limit is None else limit
    shift = shift_px(expected, half, spec)
    if shift <= limit:
        return
    problem = f"FP16 moves the landmarks by {shift:.2g} px of the crop on average, {limit:.2g} are allowed"
    if any(value.name != spec.input.name for value in model.graph.input):  # heavy weights: a try takes minutes
        raise FaceMeshError(f"{problem}; keep layers in FP32 with --keep, or allow more with --max-shift")
    names = " ".join(_worst_layers(model, images, expected, spec))
    raise FaceMeshError(
        f"{problem}; keep the layers that lose most in FP32, --keep {names}, or allow more with --max-shift"
    )


def shift_px(expected: Outputs, found: Outputs, spec: ModelSpec) -> float:
    """Return the mean distance in x and y between the landmarks of outputs (N, …), px of the crop."""
    pairs = (decode_all(outputs[spec.output.name], spec)[1][:, :, :2] for outputs in (expected, found))
    before, after = pairs
    return float(np.linalg.norm(after - before, axis=2).mean())


def _worst_layers(model: onnx.ModelProto, images: NDArray[np.float32], expected: Outputs, spec: ModelSpec) -> list[str]:
    """Return the names of the layers that alone in half precision move the landmarks most, the worst first."""
    layers = [node.name for node in model.graph.node if node.op_type in LAYERS]
    every = {node.name for node in model.graph.node}
    print_line(f"note: FP16 loses too much, measuring {len(layers)} layers one by one")
    shifts = {}
    for layer in layers:
        alone, _ = to_fp16(model, every - {layer})
        shifts[layer] = shift_px(expected, run_outputs(with_rounding(alone), images, expected), spec)
    return sorted(shifts, key=shifts.get, reverse=True)[:MOST_NAMES]


def _peaks(model: onnx.ModelProto, images: NDArray[np.float32], heavy: Mapping[str, NDArray]) -> dict[str, float]:
    """Return the largest magnitude of every float tensor between nodes."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    known = {value.name for value in inferred if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    names = [name for node in model.graph.node for name in node.output if name in known]
    picture = next(value for value in model.graph.input if value.name not in heavy)
    batch = max(1, picture.type.tensor_type.shape.dim[0].dim_value)
    peaks = dict.fromkeys(names, 0.0)
    for start in range(0, len(names), OUTPUTS_AT_ONCE):
        part = names[start : start + OUTPUTS_AT_ONCE]
        open_model = onnx.ModelProto()
        open_model.CopyFrom(model)
        given = {value.name for value in model.graph.output}
        open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in part if name not in given)
        for image in images:
            feed = {picture.name: np.repeat(image[None], batch, 0), **heavy}
            for name, array in zip(part, run_feeds(open_model, feed, part), strict=True):
                peaks[name] = max(peaks[name], float(np.abs(array).max(initial=0)))
    return peaks
