"""Zero padding before a convolution becomes the convolution's own.

    ─ Pad(0, b before, a after) ─ Conv(W, pads p, q) ─        becomes        ─ Conv(W, pads p + b, q + a) ─

TensorFlow's SAME padding of a 4 × 4 kernel is uneven, (1, 2) at stride 1, and so are the pads afterwards.
"""

from __future__ import annotations

import onnx_ir as ir

from export.passes.graph import constant, ints, is_plain_convolution


def run(model: ir.Model) -> bool:
    """Absorb every constant zero padding of height and width into the convolutions that read it."""
    changed = False
    for node in model.graph:
        pad = node.inputs[0].producer() if is_plain_convolution(node, "Conv") else None
        before_after = _zero_padding(pad) if pad is not None else None
        if before_after is None:
            continue
        pads = ints(node, "pads", [0, 0, 0, 0])
        node.attributes["pads"] = ir.AttrInt64s(
            "pads", [own + extra for own, extra in zip(pads, before_after, strict=True)]
        )
        node.attributes.pop("auto_pad", None)
        node.replace_input_with(0, pad.inputs[0])
        changed = True
    return changed


def _zero_padding(node: ir.Node) -> list[int] | None:
    """Return [top, left, bottom, right] of a node that only adds zeros, None for any other node."""
    if node.op_type != "Pad" or node.domain != "" or node.attributes.get_string("mode", "constant") != "constant":
        return None
    amounts, fill, axes = (
        constant(value) if value is not None else None for value in [*node.inputs[1:], None, None, None][:3]
    )
    unknown = any(value is not None and constant(value) is None for value in node.inputs[1:])
    if unknown or amounts is None or (fill is not None and fill.size and fill.item() != 0):
        return None
    axes = list(range(len(amounts) // 2)) if axes is None else [int(axis) % 4 for axis in axes]
    before = dict(zip(axes, amounts[: len(axes)].tolist(), strict=True))
    after = dict(zip(axes, amounts[len(axes) :].tolist(), strict=True))
    pads = [side.get(axis, 0) for side in (before, after) for axis in (2, 3)]
    touches_others = any(side.get(axis, 0) for side in (before, after) for axis in (0, 1))
    return None if touches_others or min(pads) < 0 else pads
