"""Figures of a robustness run from made-up observations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.robustness.conditions import conditions
from benchmarks.robustness.measure import UNKNOWN, Certainty, FalseFaces, Observation
from benchmarks.robustness.scores import calibration_error, certainty_rows, condition_rows, no_face_rows, roc_area

NAN = math.nan
CLEAN, ROLL_30 = conditions(("roll",))[:2]


def found(condition, boxes, nme, score=NAN, confidence=NAN, seed=0):
    return Observation(condition.number, boxes, seed, nme, Certainty(score, confidence))


def missed(condition, boxes="detected", seed=0):
    return Observation(condition.number, boxes, seed, NAN, UNKNOWN)


def test_row_of_a_condition():
    observations = [
        *(found(CLEAN, "detected", nme, 0.9) for nme in (2.0, 4.0)),
        *(found(ROLL_30, "detected", nme, score) for nme, score in ((3.0, 0.8), (6.0, 0.6), (18.0, 0.7))),
        missed(ROLL_30),
        found(ROLL_30, "ground-truth", 50.0),
    ]
    clean, rolled = condition_rows([CLEAN, ROLL_30], observations, ("detected",))
    assert (clean["condition"], clean["faces"], clean["found"], clean["nme"], clean["ratio"]) == ("clean", 2, 2, 3, 1)
    assert (rolled["condition"], rolled["kind"], rolled["level"]) == ("roll 30°", "roll", 30)
    assert (rolled["faces"], rolled["found"]) == (4, 3)
    assert (rolled["nme"], rolled["median"], rolled["ratio"]) == (9, 6, 3)
    assert rolled["over_10"] == pytest.approx(1 / 3)
    assert rolled["score"] == pytest.approx(0.7)
    assert math.isnan(rolled["confidence"])
    assert math.isnan(rolled["spread"])


def test_spread_is_that_of_the_seeds_means():
    observations = [found(CLEAN, "detected", nme, seed=seed) for nme, seed in ((1, 0), (3, 0), (5, 1), (5, 1), (8, 2))]
    (row,) = condition_rows([CLEAN], [*observations, missed(CLEAN, seed=2)], ("detected",))
    assert row["spread"] == pytest.approx(np.std([2, 5, 8], ddof=1))


def test_condition_without_a_found_face():
    clean, rolled = condition_rows([CLEAN, ROLL_30], [found(CLEAN, "detected", 2), missed(ROLL_30)], ("detected",))
    assert (rolled["faces"], rolled["found"]) == (1, 0)
    assert all(math.isnan(rolled[key]) for key in ("nme", "median", "ratio", "over_10", "score"))
    assert clean["ratio"] == 1


def test_rows_of_pictures_without_a_face():
    false_faces = FalseFaces(5, (Certainty(0.7, 0.2),), tuple(Certainty(NAN, value / 10) for value in range(5)))
    detected, given = no_face_rows(false_faces, ("detected", "ground-truth"))
    assert (detected["condition"], detected["faces"], detected["found"]) == ("no face", 5, 1)
    assert (detected["score"], detected["confidence"]) == (0.7, 0.2)
    assert (given["faces"], given["found"], given["confidence"]) == (5, 5, pytest.approx(0.2))
    assert math.isnan(given["score"])


def test_certainty_counts_large_errors_and_false_faces_as_wrong():
    observations = [
        found(CLEAN, "detected", 3.0, 0.9, 0.95),
        found(ROLL_30, "detected", 7.9, 0.8, 0.9),
        found(ROLL_30, "detected", 8.1, 0.85, 0.1),
        missed(ROLL_30),
        found(CLEAN, "ground-truth", 3.0, confidence=0.9),
    ]
    false_faces = FalseFaces(3, (Certainty(0.7, 0.05),), (Certainty(NAN, 0.2),) * 3)
    rows = certainty_rows(observations, false_faces, ("detected", "ground-truth"))
    assert [(row["certainty"], row["boxes"], row["faces"], row["right"]) for row in rows] == [
        ("score", "detected", 4, 2),
        ("confidence", "detected", 4, 2),
        ("confidence", "ground-truth", 4, 1),
    ]
    assert [row["roc_area"] for row in rows] == [0.75, 1, 1]
    assert rows[1]["calibration"] == pytest.approx((abs(0.95 + 0.9 - 2) + 0.1 + 0.05) / 4)


def test_without_confidence_there_is_no_row_of_it():
    rows = certainty_rows([found(CLEAN, "ground-truth", 3)], FalseFaces(1, (), (UNKNOWN,)), ("ground-truth",))
    assert rows == []


def test_roc_area_is_the_share_of_pairs_in_order():
    generator = np.random.default_rng(0)
    values, is_good = generator.integers(0, 6, 60) / 5, generator.random(60) < 0.4  # many ties
    good, bad = values[is_good][:, None], values[~is_good][None]
    assert roc_area(values, is_good) == pytest.approx((good > bad).mean() + (good == bad).mean() / 2)
    assert math.isnan(roc_area(values, np.ones(60, bool)))
    assert math.isnan(roc_area(values, np.zeros(60, bool)))


def test_calibration_error():
    generator = np.random.default_rng(0)
    values = generator.random(20000)
    assert calibration_error(values, generator.random(20000) < values) < 0.02
    assert calibration_error(np.ones(100), np.arange(100) < 60) == pytest.approx(0.4)
    assert calibration_error(np.array([0.25, 0.25, 0.85]), np.array([True, False, True])) == pytest.approx(0.65 / 3)
