"""A transposed convolution of stride 1 is a convolution with the kernel turned round.

    ─ ConvTranspose(W (I, O, k, k), stride 1, pads p, q) ─
        becomes ─ Conv(W flipped, (O, I, k, k), pads k - 1 - p, k - 1 - q) ─

    y[o] = Σ_i x[o + p - i] W[i]  =  Σ_j x[o + j - (k - 1 - p)] W[k - 1 - j]

Inference libraries run convolutions well and transposed ones badly, and INT8 per channel exists for convolutions alone.
"""

from __future__ import annotations

import onnx_ir as ir

from export.passes.graph import constant, ints, is_plain_convolution, new_constant, replace_node


def run(model: ir.Model) -> bool:
    """Turn every ungrouped transposed convolution of stride 1 that crops no more than the kernel reaches."""
    changed = False
    for node in list(model.graph):
        weight = constant(node.inputs[1]) if is_plain_convolution(node, "ConvTranspose") else None
        if weight is None or not is_ungrouped(node) or ints(node, "strides", [1, 1]) != [1, 1]:
            continue
        reach = [weight.shape[2] - 1, weight.shape[3] - 1] * 2
        pads = [most - cut for most, cut in zip(reach, ints(node, "pads", [0, 0, 0, 0]), strict=True)]
        if min(pads) < 0:
            continue
        flipped = new_constant(model, f"{node.inputs[1].name}_flipped", weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
        inputs = [node.inputs[0], flipped, *node.inputs[2:]]
        conv = ir.node("Conv", inputs, {"pads": pads, "kernel_shape": weight.shape[2:]}, name=node.name)
        replace_node(model, node, [conv])
        changed = True
    return changed


def is_ungrouped(node: ir.Node) -> bool:
    """One group, no dilation, and an output size that follows from pads alone."""
    return (
        node.attributes.get_int("group", 1) == 1
        and ints(node, "dilations", [1, 1]) == [1, 1]
        and ints(node, "output_padding", [0, 0]) == [0, 0]
        and "output_shape" not in node.attributes
    )
