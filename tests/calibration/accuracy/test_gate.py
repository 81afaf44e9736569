"""The gate's search with a judge whose losses are known: limits, number of float layers, what a refusal says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from calibration.accuracy.gate import GateResult, pass_gate
from calibration.accuracy.sensitivity import LayerLoss
from runtime.errors import FaceMeshError

LAYERS = [f"layer{number}" for number in range(50)]
FP32_NME = 4.0


class CountingJudge:
    """The loss falls with the number of layers in float; landmarks carry that number."""

    def __init__(self, losses: dict[int, float] | float, labelled: bool = True) -> None:
        self.labelled = labelled
        self._losses = losses
        self.tried: list[int] = []

    def landmarks(self, model: object) -> np.ndarray:
        """Return (2, 68, 2): the number of float layers in x, 0 for the model itself."""
        floats = 0 if model == "fp32" else len(LAYERS) - len(model)
        if model != "fp32":
            self.tried.append(floats)
            assert model == LAYERS[floats:]  # the most sensitive ones are left out
        points = np.zeros((2, 68, 2), np.float32)
        points[..., 0] = floats
        return points

    def nme(self, landmarks: np.ndarray) -> float:
        return FP32_NME + landmarks[0, 0, 0]

    def loss(self, landmarks: np.ndarray, reference: np.ndarray) -> float:
        floats = int(landmarks[0, 0, 0])
        return self._losses[floats] if isinstance(self._losses, dict) else self._losses


@pytest.fixture
def search(monkeypatch):
    """``search(judge, limit)``: the gate over `LAYERS`, whose sensitivity is their order."""
    monkeypatch.setattr("calibration.precision.qdq.to_int8", lambda graph, layers, table: list(layers))
    asked: list[int] = []

    def run(judge: CountingJudge, limit: float, layers: list[str] = LAYERS) -> GateResult:
        def find_losses() -> list[LayerLoss]:
            asked.append(1)
            return [LayerLoss(layer, 1.0, None) for layer in layers]

        result = pass_gate(SimpleNamespace(model="fp32"), layers, None, judge, limit, find_losses)
        run.asked = len(asked)
        return result

    return run


def test_int8_throughout_where_that_is_good_enough(search):
    judge = CountingJudge(0.01)
    result = search(judge, 0.01)  # the limit itself passes
    assert (result.float_layers, result.loss, result.model) == ((), 0.01, LAYERS)
    assert (result.fp32_nme, result.int8_nme, result.shift_px) == (FP32_NME, FP32_NME, 0)
    assert judge.tried == [0]
    assert search.asked == 0  # the sensitivity takes long, and nobody needs it


@pytest.mark.parametrize(
    ("needed", "tried"),
    [
        (1, [0, 1]),
        (2, [0, 1, 2]),
        (3, [0, 1, 2, 4, 3]),
        (4, [0, 1, 2, 4, 3]),
        (5, [0, 1, 2, 4, 8, 6, 5]),
        (8, [0, 1, 2, 4, 8, 6, 7]),
        (9, [0, 1, 2, 4, 8, 10, 9]),
        (10, [0, 1, 2, 4, 8, 10, 9]),
    ],
)
def test_the_fewest_float_layers_are_found(search, needed, tried):
    """Doubled up to a fifth of the layers, then bisected."""
    judge = CountingJudge({count: 0.02 if count >= needed else 0.02001 for count in range(51)})
    result = search(judge, 0.02)
    assert [loss.layer for loss in result.float_layers] == LAYERS[:needed]
    assert result.model == LAYERS[needed:]
    assert result.shift_px == needed
    assert (result.fp32_nme, result.int8_nme) == (FP32_NME, FP32_NME + needed)
    assert judge.tried == tried
    assert search.asked == 1


def test_a_refusal_names_the_best_try(search):
    losses = dict.fromkeys(range(51), 0.5) | {0: 0.4, 2: 0.0125, 11: 0.0}
    judge = CountingJudge(losses)
    with pytest.raises(FaceMeshError) as caught:
        search(judge, 0.01)
    assert judge.tried == [0, 1, 2, 4, 8, 10]
    assert str(caught.value).startswith(
        "INT8 raises the NME from 4.000 % to 6.000 %, by 1.25 % where 1 % are allowed, "
        "even with 2 of 50 layers in float; no model is written."
    )


def test_a_fifth_that_is_a_power_of_two_is_tried_once(search):
    judge = CountingJudge(0.5)
    with pytest.raises(FaceMeshError, match="even with 0 of 40 layers in float"):
        search(judge, 0.01, LAYERS[-40:])
    assert judge.tried == [10, 11, 12, 14, 18]  # beside the ten that are left out from the start


def test_without_labels_pixels_are_the_measure(search):
    with pytest.raises(FaceMeshError, match=r"INT8 moves the landmarks by 0\.300 px of the crop where 0\.25 px are"):
        search(CountingJudge(0.3, labelled=False), 0.25)
    result = search(CountingJudge(0.2, labelled=False), 0.25)
    assert (result.fp32_nme, result.int8_nme, result.loss) == (None, None, 0.2)
