"""Batch normalisation after a residual addition becomes part of the two convolutions that are added.

    ─ Conv(W, b) ─┐                                             ─ Conv(W · s, b · s + t) ─┐
                  Add ─ BatchNormalization(s, t) ─   becomes                              Add ─
    ─ Conv(V, c) ─┘                                             ─ Conv(V · s, c · s) ─────┘

Only where each branch ends in a convolution that nobody else reads. An identity branch would need a multiplication by s
of its own, as large as the normalisation it replaces; nothing is won there, and the normalisation stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from export.passes.fold_batch_norm import affine_of, is_linear, scale_layer
from export.passes.graph import bypass, only_user


def run(model: ir.Model) -> bool:
    """Split every such normalisation."""
    changed = False
    for node in list(model.graph):
        affine = affine_of(node)
        add = node.inputs[0].producer() if affine is not None else None
        if add is None or add.op_type != "Add" or only_user(add.outputs[0]) is not node:
            continue
        branches = [value.producer() for value in add.inputs]
        # A convolution that is added to itself has two uses and fails the test for a single user.
        if all(branch is not None and is_linear(branch) and only_user(branch.outputs[0]) is add for branch in branches):
            scale, shift = affine
            scale_layer(model, branches[0], scale, shift)
            scale_layer(model, branches[1], scale, np.zeros_like(shift))
            bypass(model, node, add.outputs[0])
            changed = True
    return changed
