"""The accuracy gate: INT8 for as many layers as the landmarks allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.accuracy.judge import LandmarkJudge
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
    fp32_nme: float  # %
    int8_nme: float
    float_layers: tuple[LayerLoss, ...]  # returned to float, the most sensitive first

    @property
    def increase(self) -> float:
        """Relative increase of the NME by INT8; may be negative by luck."""
        return self.int8_nme / self.fp32_nme - 1


def pass_gate(
    graph: Graph,
    layers: Sequence[str],
    table: CalibrationTable,
    judge: LandmarkJudge,
    limit: float,
    find_losses: Callable[[], Sequence[LayerLoss]],
) -> GateResult:
    """Quantise ``layers``; while the NME grows by more than the share ``limit``, return the most sensitive to float.

    The number of float layers is doubled until the limit is met and then reduced by bisection. ``find_losses`` gives
    their order, the most sensitive first, and is called only if it is needed. Raises `FaceMeshError` with the best
    figure if `MOST_FLOAT` of the layers do not suffice.
    """
    from calibration.precision.qdq import to_int8

    fp32 = judge.nme(judge.landmarks(graph.model))

    def attempt(kept: Sequence[LayerLoss]) -> GateResult:
        floats = {loss.layer for loss in kept}
        candidate = to_int8(graph, [layer for layer in layers if layer not in floats], table)
        return GateResult(candidate, fp32, judge.nme(judge.landmarks(candidate)), tuple(kept))

    # All layers in INT8, if that is good enough.
    result = attempt(())
    if result.increase <= limit:
        return result

    # More and more layers in float.
    losses = find_losses()
    most = int(MOST_FLOAT * len(layers))
    failed = 0
    best = result
    for count in [*(2**i for i in range(most.bit_length()) if 2**i < most), most]:
        result = attempt(losses[:count])
        if result.increase <= limit:
            return _fewest(attempt, losses, failed, result, limit)
        failed = count
        best = min(best, result, key=lambda tried: tried.increase)
    raise FaceMeshError(
        f"INT8 raises the NME from {fp32:.3f} % to {best.int8_nme:.3f} %, by {100 * best.increase:.2f} % where "
        f"{100 * limit:g} % are allowed, even with {len(best.float_layers)} of {len(layers)} layers in float; "
        f"no model is written. Try another --method or more --samples"
    )


def _fewest(
    attempt: Callable[[Sequence[LayerLoss]], GateResult],
    losses: Sequence[LayerLoss],
    failed: int,
    passed: GateResult,
    limit: float,
) -> GateResult:
    """Bisect between ``failed`` float layers, too few, and the ones of ``passed``."""
    while len(passed.float_layers) - failed > 1:
        middle = (failed + len(passed.float_layers)) // 2
        result = attempt(losses[:middle])
        if result.increase <= limit:
            passed = result
        else:
            failed = middle
    return passed
