"""The accuracy gate: INT8 for as many layers as the landmarks allow. Without labels they are those of FP32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from calibration.accuracy.judge import LandmarkJudge, shift_px
from calibration.accuracy.sensitivity import LayerLoss
from calibration.precision.graph_view import Graph
from calibration.ranges.table import CalibrationTable
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx

MOST_FLOAT = 0.2  # share of the layers; beyond it the model would be INT8 by name only


@dataclass(frozen=True, eq=False)
class GateResult:
    """One quantised model with its error and its float layers."""

    model: onnx.ModelProto
    loss: float  # what the gate limits, see `LandmarkJudge.loss`
    shift_px: float  # mean distance of the landmarks from those of FP32, px of the crop
    fp32_nme: float | None  # %; None without labels
    int8_nme: float | None
    float_layers: tuple[LayerLoss, ...]  # returned to float, the most sensitive first


class Attempt(Protocol):
    """A quantised model and its loss."""

    @property
    def loss(self) -> float: ...

    @property
    def float_layers(self) -> Sequence[Any]: ...


A = TypeVar("A", bound=Attempt)
L = TypeVar("L")


def pass_gate(
    graph: Graph,
    layers: Sequence[str],
    table: CalibrationTable,
    judge: LandmarkJudge,
    limit: float,
    find_losses: Callable[[], Sequence[LayerLoss]],
) -> GateResult:
    """Quantise ``layers``; while the judge's loss is larger than ``limit``, return the most sensitive to float.

    ``find_losses`` as in `fewest_floats`. Raises `FaceMeshError` with the best figure if that finds none.
    """
    from calibration.precision.qdq import to_int8

    reference = judge.landmarks(graph.model)
    fp32_nme = judge.nme(reference) if judge.labelled else None

    def attempt(kept: Sequence[LayerLoss]) -> GateResult:
        floats = {loss.layer for loss in kept}
        candidate = to_int8(graph, [layer for layer in layers if layer not in floats], table)
        landmarks = judge.landmarks(candidate)
        int8_nme = judge.nme(landmarks) if judge.labelled else None
        loss, shift = judge.loss(landmarks, reference), shift_px(landmarks, reference)
        return GateResult(candidate, loss, shift, fp32_nme, int8_nme, tuple(kept))

    best = fewest_floats(attempt, len(layers), limit, find_losses)
    if best.loss <= limit:
        return best
    if judge.labelled:
        problem = f"raises the NME from {fp32_nme:.3f} % to {best.int8_nme:.3f} %, by {100 * best.loss:.2f} %"
        allowed = f"{100 * limit:g} %"
    else:
        problem, allowed = f"moves the landmarks by {best.loss:.3f} px of the crop", f"{limit:.3g} px"
    raise FaceMeshError(
        f"INT8 {problem} where {allowed} are allowed, even with {len(best.float_layers)} of {len(layers)} layers "
        f"in float; no model is written. Try another --method or more --samples"
    )


def fewest_floats(
    attempt: Callable[[Sequence[L]], A], layers: int, limit: float, find_losses: Callable[[], Sequence[L]]
) -> A:
    """Return the attempt with the fewest float layers whose loss is within ``limit``, or the best one if there is none.

    ``attempt`` quantises a model of so many ``layers`` but for some. Their number is doubled until the limit is met, up
    to `MOST_FLOAT` of the layers, and then reduced by bisection. ``find_losses`` gives their order, the most sensitive
    first, and is called only if it is needed.
    """
    # All layers in INT8, if that is good enough.
    result = best = attempt(())
    if result.loss <= limit:
        return result

    # More and more layers in float.
    losses = find_losses()
    most = int(MOST_FLOAT * layers)
    failed = 0
    for count in [*(2**i for i in range(most.bit_length()) if 2**i < most), most]:
        result = attempt(losses[:count])
        if result.loss <= limit:
            return _fewest(attempt, losses, failed, result, limit)
        failed = count
        best = min(best, result, key=lambda tried: tried.loss)
    return best


def _fewest(attempt: Callable[[Sequence[L]], A], losses: Sequence[L], failed: int, passed: A, limit: float) -> A:
    """Bisect between ``failed`` float layers, too few, and the ones of ``passed``."""
    while len(passed.float_layers) - failed > 1:
        middle = (failed + len(passed.float_layers)) // 2
        result = attempt(losses[:middle])
        if result.loss <= limit:
            passed = result
        else:
            failed = middle
    return passed
