"""A crop after a transposed convolution becomes its padding.

    ─ ConvTranspose(W, pads p, q) ─ Slice(b off the front, a off the end) ─
        becomes ─ ConvTranspose(W, pads p + b, q + a) ─

The pixels that were cut off are no longer computed, and batch normalisation that follows becomes a neighbour.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.passes.graph import bypass, constant, ints, is_plain_convolution, only_user


def run(model: ir.Model) -> bool:
    """Absorb every crop of height and width, several in a row too."""
    changed = False
    for node in list(model.graph):
        if not is_plain_convolution(node, "ConvTranspose") or "output_shape" in node.attributes:
            continue
        while (crop := _crop(only_user(node.outputs[0]), node.outputs[0])) is not None:
            pads = ints(node, "pads", [0, 0, 0, 0])
            node.attributes["pads"] = ir.AttrInt64s("pads", [own + cut for own, cut in zip(pads, crop, strict=True)])
            node.attributes.pop("auto_pad", None)
            user = only_user(node.outputs[0])
            node.outputs[0].shape = user.outputs[0].shape
            bypass(model, user, node.outputs[0])
            changed = True
    return changed


def _crop(node: ir.Node | None, value: ir.Value) -> list[int] | None:
    """Return [top, left, bottom, right] that a Slice cuts off ``value`` (N, C, H, W), None for any other node."""
    if node is None or node.op_type != "Slice" or node.domain != "" or node.inputs[0] is not value:
        return None
    arguments = [constant(argument) for argument in node.inputs[1:]]
    if any(argument is None for argument in arguments):
        return None
    starts, ends = arguments[0].tolist(), arguments[1].tolist()
    axes = [int(axis) % 4 for axis in arguments[2]] if len(arguments) > 2 else list(range(len(starts)))
    if (len(arguments) > 3 and np.any(arguments[3] != 1)) or len({*axes}) != len(axes):
        return None
    crop = [0, 0, 0, 0]
    for axis, start, end in zip(axes, starts, ends, strict=True):
        size = value.shape[axis] if value.shape is not None else None
        size = size if isinstance(size, int) else None
        before = start if start >= 0 else None if size is None else max(0, size + start)
        after = _cut_at_end(end, size)
        if before is None or after is None or (axis < 2 and (before or after)):
            return None
        if axis >= 2:
            crop[axis - 2], crop[axis] = before, after
    return crop


def _cut_at_end(end: int, size: int | None) -> int | None:
    """Return the amount cut off by a Slice that ends at ``end``; None if it depends on an unknown size."""
    if end < 0:
        return -end
    if size is not None:
        return max(0, size - end)
    return 0 if end >= 2**31 - 1 else None
