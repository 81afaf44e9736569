"""A transposed convolution of stride s is a convolution that computes the s × s pixels of each block as channels.

    ─ ConvTranspose(W (I, O, n·s, n·s), stride s, pads p, q) ─ [Relu] ─

becomes

    ─ Conv(W' (s·O·s, I, n, n), pads n - 1) ─ [Relu] ─ interleave ─ Slice(p off the front, q off the end) ─

Uncropped, pixel s·m + r of the output is Σ_i x[m - i] W[r + s·i], i < n: for every r a convolution of n taps. The
activation moves before the interleaving (see `export.passes.graph.interleave`), where libraries fuse it with the
convolution.

Of the exact forms for PRNet's five layers (4 × 4, stride 2) this one was kept. CPU time of the layer between two
convolutions, ONNX Runtime 1.31, one thread, summed, all with DepthToSpace: transposed 26.4 ms, this form 23.9, four
convolutions of 2 × 2 and a Concat 23.5, one convolution of 3 × 3 without crop 30.0. Four small convolutions mean four
times the launches on a GPU for the same arithmetic, which 2 % do not pay for.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.flip_transposed import is_ungrouped
from export.passes.graph import (
    bypass,
    constant,
    has_known_sides,
    interleave,
    ints,
    is_plain_convolution,
    new_constant,
    only_user,
    replace_node,
)


def run(model: ir.Model) -> bool:
    """Replace ungrouped transposed convolutions on maps of fixed size with kernels of a multiple of the stride."""
    changed = False
    for node in list(model.graph):
        weight = constant(node.inputs[1]) if is_plain_convolution(node, "ConvTranspose") else None
        strides = ints(node, "strides", [1, 1])
        if weight is None or not is_ungrouped(node) or strides[0] != strides[1] or strides[0] < 2:
            continue
        if (
            weight.shape[2] != weight.shape[3]
            or weight.shape[2] % strides[0]
            or not _has_constant_bias(node)
            or not has_known_sides(node.inputs[0])
        ):
            continue
        replace_node(model, node, _subpixel_nodes(model, node, weight, strides[0]))
        changed = True
    return changed


def phase_weights(weight: NDArray, stride: int) -> NDArray:
    """Turn (I, O, n·s, n·s) into (s·O·s, I, n, n), ordered by column in the block, channel, row in the block."""
    channels_in, channels_out, kernel, _ = weight.shape
    taps = kernel // stride
    split = weight.reshape(channels_in, channels_out, taps, stride, taps, stride)[:, :, ::-1, :, ::-1, :]
    return split.transpose(5, 1, 3, 0, 2, 4).reshape(stride * stride * channels_out, channels_in, taps, taps)


def _subpixel_nodes(model: ir.Model, node: ir.Node, weight: NDArray, stride: int) -> list[ir.Node]:
    """Make Conv, a following Relu (taken out of the graph), interleaving and, for a crop, Slice."""
    name, taps = node.inputs[1].name, weight.shape[2] // stride
    inputs = [node.inputs[0], new_constant(model, f"{name}_phases", phase_weights(weight, stride))]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        inputs.append(
            new_constant(
                model, f"{node.inputs[2].name}_phases", np.tile(np.repeat(constant(node.inputs[2]), stride), stride)
            )
        )
    nodes = [ir.node("Conv", inputs, {"pads": [taps - 1] * 4, "kernel_shape": [taps, taps]}, name=node.name)]
    user = only_user(node.outputs[0])
    if user is not None and user.op_type == "Relu" and not user.outputs[0].is_graph_output():
        bypass(model, user, node.outputs[0])
        nodes.append(ir.node("Relu", [nodes[-1].outputs[0]], name=user.name))
    height, width = (side + taps - 1 for side in node.inputs[0].shape[2:])
    nodes += interleave(model, nodes[-1].outputs[0], weight.shape[1], height, width, stride, node.name)
    top, left, bottom, right = ints(node, "pads", [0, 0, 0, 0])
    if top or left or bottom or right:
        far = np.iinfo(np.int64).max
        starts = new_constant(model, f"{name}_crop_starts", np.array([top, left]))
        ends = new_constant(model, f"{name}_crop_ends", np.array([-bottom or far, -right or far]))
        axes = new_constant(model, f"{name}_crop_axes", np.array([2, 3]))
        nodes.append(ir.node("Slice", [nodes[-1].outputs[0], starts, ends, axes], name=f"{node.name}_crop"))
    return nodes


def _has_constant_bias(node: ir.Node) -> bool:
    return len(node.inputs) < 3 or node.inputs[2] is None or constant(node.inputs[2]) is not None
