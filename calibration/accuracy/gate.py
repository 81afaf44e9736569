"""The accuracy gate: INT8 for as many layers as the landmarks allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calibration.accuracy.judge import Judge
from calibration.accuracy.sensitivity import LayerLoss
from calibration.ranges.table import CalibrationTable
from runtime.errors import FaceMeshError

if TYPE_CHECKING:
    import onnx

MOST_FLOAT = 0.2  # share of the layers; beyond it the model would be INT8 by name only


@dataclass(frozen=True, eq=False)
class Passed:
    """The model that passed, and what it took."""

    model: onnx.ModelProto
    fp32_nme: float  # %
    int8_nme: float
    float_layers: tuple[LayerLoss, ...]  # returned to float, the most sensitive first

    @property
    def increase(self) -> float:
        return self.int8_nme / self.fp32_nme - 1


def pass_gate(
    model: onnx.ModelProto,
    layers: Sequence[str],
    table: CalibrationTable,
    judge: Judge,
    limit: float,
    find_losses: Callable[[], Sequence[LayerLoss]],
) -> Passed:
    """Quantise ``layers``; while the NME grows by more than the share ``limit``, return the most sensitive ones to float.

    ``find_losses`` is asked for the order, the most sensitive first, only where it is needed. The number of float layers is doubled until
    the limit is met and then reduced by bisection. Raises `FaceMeshError` with the best figure when `MOST_FLOAT` of the layers do not suffice.
    """
    from calibration.precision.qdq import to_int8

    fp32 = judge.nme(judge.landmarks(model))

    def attempt(kept: Sequence[LayerLoss]) -> Passed:
        floats = {loss.layer for loss in kept}
        candidate = to_int8(model, [layer for layer in layers if layer not in floats], table)
        return Passed(candidate, fp32, judge.nme(judge.landmarks(candidate)), tuple(kept))

    result = attempt(())
    if result.increase <= limit:
        return result
    losses, most, failed, best = find_losses(), int(MOST_FLOAT * len(layers)), 0, result
    for count in [*(2**i for i in range(most.bit_length()) if 2**i < most), most]:
        result = attempt(losses[:count])
        if result.increase <= limit:
            return _fewest(attempt, losses, failed, result, limit)
        failed, best = count, min(best, result, key=lambda passed: passed.increase)
    raise FaceMeshError(
        f"INT8 raises the NME from {fp32:.3f} % to {best.int8_nme:.3f} %, by {100 * best.increase:.2f} % where {100 * limit:g} % are allowed, "
        f"even with {len(best.float_layers)} of {len(layers)} layers in float; no model is written. Try another --method or more --samples"
    )


def _fewest(attempt: Callable[[Sequence[LayerLoss]], Passed], losses: Sequence[LayerLoss], failed: int, passed: Passed, limit: float) -> Passed:
    """Bisect between ``failed`` float layers, which are too few, and those of ``passed``."""
    while len(passed.float_layers) - failed > 1:
        middle = (failed + len(passed.float_layers)) // 2
        result = attempt(losses[:middle])
        if result.increase <= limit:
            passed = result
        else:
            failed = middle
    return passed
