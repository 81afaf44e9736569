"""Convolutions to very few channels compute 2 × 2 pixels at once, as channels.

    ─ Conv(W (3, I, k, k)) ─ Relu ─ Conv(V (3, 3, k, k)) ─ Sigmoid ─

becomes, with three channels as an example,

    ─ Conv(W' (12, I, k + 1, k + 1), stride 2) ─ Relu ─ Conv(V' (12, 12, n, n)) ─ interleave ─ Sigmoid ─

The kernel of each of the four pixels is W, shifted by its place in the block; the rest of W' and V' is zeros. Vector
units and tensor cores work on 8 to 32 channels and compute 3 as if they were so many: PRNet's last three layers fall
from 4.5 to 2.3 ms (one core, ONNX Runtime 1.31), though the multiplications that count rise from 69 to 121 million.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.passes.flip_transposed import is_ungrouped
from export.passes.graph import (
    constant,
    has_known_sides,
    interleave,
    ints,
    is_plain_convolution,
    new_constant,
    only_user,
    replace_node,
)

MOST_CHANNELS = 4  # four times as many fill a vector of 16


def run(model: ir.Model) -> bool:
    """Rewrite every chain of such convolutions, with Relu between them or nothing."""
    changed, done = False, set()
    for node in list(model.graph):
        if (
            node in done
            or not _is_narrow(node)
            or not has_known_sides(node.inputs[0])
            or any(side % 2 for side in node.inputs[0].shape[2:])
        ):
            continue
        chain, (height, width) = _chain(node), node.inputs[0].shape[2:]
        done.update(chain)
        _block_first(model, node)
        for following in chain[1:]:
            _block_next(model, following)
        last = chain[-1]
        twin = ir.Node("", "Conv", last.inputs, last.attributes.values(), name=last.name)
        channels = constant(last.inputs[1]).shape[0] // 4
        replace_node(
            model, last, [twin, *interleave(model, twin.outputs[0], channels, height // 2, width // 2, 2, last.name)]
        )
        _forget_shapes([*chain[:-1], twin])
        changed = True
    return changed


def _is_narrow(node: ir.Node) -> bool:
    """Return True for an ungrouped, size-keeping convolution with constants to at most `MOST_CHANNELS` channels."""
    weight = constant(node.inputs[1]) if is_plain_convolution(node, "Conv") else None
    if (
        weight is None
        or weight.shape[0] > MOST_CHANNELS
        or not is_ungrouped(node)
        or ints(node, "strides", [1, 1]) != [1, 1]
    ):
        return False
    pads = ints(node, "pads", [0, 0, 0, 0])
    keeps_size = all(pads[axis] + pads[axis + 2] == weight.shape[2 + axis] - 1 for axis in (0, 1))
    return keeps_size and (len(node.inputs) < 3 or node.inputs[2] is None or constant(node.inputs[2]) is not None)


def _chain(node: ir.Node) -> list[ir.Node]:
    """``node`` and the narrow convolutions that follow it with at most Relu between."""
    chain = [node]
    while True:
        user = only_user(chain[-1].outputs[0])
        if user is not None and user.op_type == "Relu":
            user = only_user(user.outputs[0])
        if user is None or not _is_narrow(user):
            return chain
        chain.append(user)


def _block_first(model: ir.Model, node: ir.Node) -> None:
    """Turn (O, I, h, w) at stride 1 into (4·O, I, h + 1, w + 1) at stride 2, channels ordered for `interleave`."""
    weight = constant(node.inputs[1])
    channels_out, channels_in, height, width = weight.shape
    blocked = np.zeros((2, channels_out, 2, channels_in, height + 1, width + 1), weight.dtype)
    for row, column in np.ndindex(2, 2):
        blocked[column, :, row, :, row : row + height, column : column + width] = weight
    node.attributes["strides"] = ir.AttrInt64s("strides", [2, 2])
    _set_weight(model, node, blocked.reshape(4 * channels_out, channels_in, height + 1, width + 1))


def _block_next(model: ir.Model, node: ir.Node) -> None:
    """(O, I, h, w) between pixels -> (4·O, 4·I, n, n) between blocks."""
    weight, pads = constant(node.inputs[1]), ints(node, "pads", [0, 0, 0, 0])
    channels_out, channels_in, height, width = weight.shape
    # The pixel `row` of a block reads pixels row - pad .. row - pad + height - 1; the blocks they lie in are the new
    # taps.
    before = [-(-pads[0] // 2), -(-pads[1] // 2)]
    after = [(height - pads[0]) // 2, (width - pads[1]) // 2]
    blocked = np.zeros(
        (2, channels_out, 2, 2, channels_in, 2, before[0] + 1 + after[0], before[1] + 1 + after[1]), weight.dtype
    )
    for row, column, i, j in np.ndindex(2, 2, height, width):
        (down, from_row), (right, from_column) = divmod(row + i - pads[0], 2), divmod(column + j - pads[1], 2)
        blocked[column, :, row, from_column, :, from_row, before[0] + down, before[1] + right] = weight[:, :, i, j]
    node.attributes["pads"] = ir.AttrInt64s("pads", [*before, *after])
    _set_weight(model, node, blocked.reshape(4 * channels_out, 4 * channels_in, *blocked.shape[-2:]))


def _set_weight(model: ir.Model, node: ir.Node, weight: NDArray) -> None:
    """A new weight, and the bias once for each of the four pixels."""
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", weight.shape[2:])
    node.replace_input_with(1, new_constant(model, f"{node.inputs[1].name}_blocks", weight))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        node.replace_input_with(
            2, new_constant(model, f"{node.inputs[2].name}_blocks", np.tile(np.repeat(constant(node.inputs[2]), 2), 2))
        )


def _forget_shapes(nodes: list[ir.Node]) -> None:
    """The sides of these outputs and of the Relu after them have halved."""
    for node in nodes:
        user = only_user(node.outputs[0])
        node.outputs[0].shape = None
        if user is not None and user.op_type == "Relu":
            user.outputs[0].shape = None
