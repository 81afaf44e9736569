"""Rewrite an exported graph into a faster one that computes the same. A step that fails its check is dropped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
import onnx
import onnx_ir as ir
import onnxsim
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from export.graphs.foreign import with_unique_names
from export.graphs.heavy_weights import Weights
from export.graphs.verify import Outputs, largest_difference, run_outputs
from export.passes import (
    absorb_crop,
    absorb_padding,
    block_narrow,
    flip_transposed,
    fold_batch_norm,
    fold_constants,
    split_batch_norm,
    subpixel_transposed,
)
from runtime.errors import FaceMeshError, one_line

# The order matters: padding is read as numbers, crops go before normalisation can be folded, and the fold needs a
# layer that is still one node.
PASSES = (
    fold_constants,
    absorb_padding,
    absorb_crop,
    flip_transposed,
    fold_batch_norm,
    split_batch_norm,
    subpixel_transposed,
    block_narrow,
)
TOLERANCE = 1e-5  # output units, for outputs up to 1
ROUNDING_FACTOR = (
    4  # a network that amplifies rounding may differ by so many times what another order of the same sums makes
)

Change = Callable[[onnx.ModelProto], onnx.ModelProto | None]  # one step; None: nothing to do


@dataclass(frozen=True)
class Step:
    """The outcome of one rewrite that changed the graph."""

    name: str
    difference: float  # largest, output units, against the model before any step; NaN where it does not run
    allowed: float  # what the difference may reach
    dropped: str | None = None  # why it was left out


def rewrite(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    expected: Outputs,
    passes: Sequence[ModuleType] = PASSES,
    heavy: Weights | None = None,
) -> tuple[onnx.ModelProto, list[Step]]:
    """Run the passes and then onnxsim; return the new model and the steps that changed something.

    After each step the outputs for ``images`` (N, …) are compared with ``expected``, those of ``model`` itself. Steps
    that differ too much are dropped and returned too. ``heavy`` are weights that the model takes as inputs. Raises
    `FaceMeshError` if ``model`` does not run.
    """
    current = with_unique_names(model)

    # tolerance = 4 x the difference between ONNX Runtime with and without its own optimisations, at least 1e-5
    rounding = largest_difference(expected, run_outputs(current, images, expected, optimised=False, heavy=heavy))
    largest = max(float(np.abs(values).max()) for values in expected.values())
    tolerance = max(TOLERANCE * max(1.0, largest), ROUNDING_FACTOR * rounding)

    def distance(changed: onnx.ModelProto) -> float:
        return largest_difference(expected, run_outputs(changed, images, expected, heavy=heavy))

    steps: list[Step] = []
    changes: list[tuple[str, Change]] = [(_pass_name(module), partial(_apply, module)) for module in passes]
    for name, change in [*changes, ("onnxsim", _simplify)]:
        step, current = _attempt(name, change, current, distance, tolerance)
        if step is not None:
            steps.append(step)
    return current, steps


def _pass_name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _attempt(
    name: str,
    change: Change,
    current: onnx.ModelProto,
    distance: Callable[[onnx.ModelProto], float],
    tolerance: float,
) -> tuple[Step | None, onnx.ModelProto]:
    """Run one step; return its outcome (None: nothing to do) and the model to go on with."""
    try:
        candidate = change(current)
        if candidate is None:
            return None, current
        onnx.checker.check_model(candidate, full_check=True)
        difference = distance(candidate)
    except FaceMeshError as error:
        return Step(name, float("nan"), tolerance, str(error)), current
    except Exception as error:  # a rewrite is an offer: whatever goes wrong in it, the model without it is good
        return Step(name, float("nan"), tolerance, f"{type(error).__name__}: {one_line(error)}"), current
    if not difference <= tolerance:
        return Step(
            name, difference, tolerance, f"outputs differ by {difference:.2g}, allowed are {tolerance:.2g}"
        ), current
    return Step(name, difference, tolerance), candidate


def _apply(module: ModuleType, before: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return the model after one pass, without unread nodes and constants; None if nothing changed."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(before))
    changed = module.run(model)
    removed = RemoveUnusedNodesPass()(model).modified
    return ir.to_proto(model) if changed or removed else None


def _simplify(before: onnx.ModelProto) -> onnx.ModelProto | None:
    """Run onnxsim; return None if it finds nothing to do."""
    after, _ = onnxsim.simplify(before)
    same = [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
    return None if same else after
