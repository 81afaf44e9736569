"""Batch normalisation becomes part of the linear layer before it.

    ─ Conv | ConvTranspose(W, b) ─ BatchNormalization(g, d, mean, var, eps) ─
        becomes ─ Conv | ConvTranspose(W · s, b · s + t) ─

with s = g / sqrt(var + eps) and t = d - mean · s for each output channel, computed in double precision.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.graph import bypass, constant, new_constant, only_user


def run(model: ir.Model) -> bool:
    """Fold every normalisation behind a convolution of either kind without other readers."""
    changed = False
    for node in list(model.graph):
        affine = affine_of(node)
        layer = node.inputs[0].producer() if affine is not None else None
        if layer is not None and is_linear(layer) and only_user(layer.outputs[0]) is node:
            scale_layer(model, layer, *affine)
            bypass(model, node, layer.outputs[0])
            changed = True
    return changed


def affine_of(node: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and shift, (C,) each, of a BatchNormalization with constant statistics; None for any other node."""
    if node.op_type != "BatchNormalization" or node.domain != "" or node.attributes.get_int("training_mode", 0):
        return None
    arrays = [constant(value) for value in node.inputs[1:]]
    if any(array is None for array in arrays) or any(output.uses() for output in node.outputs[1:]):
        return None
    gain, offset, mean, variance = (array.astype(np.float64) for array in arrays)
    scale = gain / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return scale, offset - mean * scale


def is_linear(node: ir.Node) -> bool:
    """A convolution of either kind whose weight and bias are constants."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain != "":
        return False
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    return constant(node.inputs[1]) is not None and (not has_bias or constant(node.inputs[2]) is not None)


def scale_layer(model: ir.Model, layer: ir.Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    """Make ``layer`` put out ``scale`` · output + ``shift``, each (C,); shared constants stay as they are."""
    weight = constant(layer.inputs[1])
    bias = (
        constant(layer.inputs[2]).astype(np.float64) if len(layer.inputs) > 2 and layer.inputs[2] is not None else 0.0
    )
    if layer.op_type == "Conv":
        scaled = (
            weight * scale[:, None, None, None]
            if weight.ndim == 4
            else weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        )
    else:  # (in, out / groups, height, width): the groups of the input own consecutive outputs
        groups = layer.attributes.get_int("group", 1)
        per_group = weight.reshape(groups, -1, *weight.shape[1:])
        scaled = (per_group * scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).reshape(weight.shape)
    name = layer.inputs[1].name
    layer.resize_inputs(3)
    layer.replace_input_with(1, new_constant(model, f"{name}_folded", scaled.astype(weight.dtype)))
    layer.replace_input_with(2, new_constant(model, f"{name}_bias", (bias * scale + shift).astype(weight.dtype)))
