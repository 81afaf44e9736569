"""How far the copies turn, and which photographs."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from training.turning.turn_plan import MAX_PITCH_JITTER_DEG, MIN_TURN_DEG, YawBand, parse_yaw_band, plan_turns

AZIMUTHS = np.random.default_rng(5).normal(0, 20, 60)
WHOLE = [YawBand(20, 90, 1)]


def test_faces_turn_on_to_their_own_side():
    plan = plan_turns(AZIMUTHS, WHOLE, 600, seed=0)
    start = AZIMUTHS[plan.rows]
    assert (np.sign(plan.azimuth_deg) == np.sign(start)).all()
    assert (np.abs(plan.azimuth_deg) >= np.abs(start) + MIN_TURN_DEG).all()
    assert np.abs(plan.pitch_change_deg).max() <= MAX_PITCH_JITTER_DEG


def test_yaws_are_spread_evenly_and_photographs_used_alike():
    plan = plan_turns(AZIMUTHS, WHOLE, 700, seed=0)
    per_band = np.histogram(np.abs(plan.azimuth_deg), np.linspace(20, 90, 8))[0]
    assert abs(per_band - 100).max() <= 1
    copies = np.bincount(plan.rows[np.abs(AZIMUTHS[plan.rows]) < 15])
    copies = copies[copies > 0]
    assert copies.max() - copies.min() <= 2
    assert (np.diff(plan.rows) >= 0).all()


def test_bands_are_weighted():
    plan = plan_turns(np.zeros(4), [YawBand(10, 20, 1), YawBand(60, 80, 3)], 400, seed=0)
    yaw = np.abs(plan.azimuth_deg)
    assert abs(((yaw >= 10) & (yaw <= 20)).sum() - 100) <= 1
    assert abs(((yaw >= 60) & (yaw <= 80)).sum() - 300) <= 1


def test_seed_decides():
    plans = [plan_turns(AZIMUTHS, WHOLE, 50, seed) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(plans[0].azimuth_deg, plans[1].azimuth_deg)
    np.testing.assert_array_equal(plans[0].rows, plans[1].rows)
    assert (plans[0].azimuth_deg != plans[2].azimuth_deg).any()


def test_yaw_that_no_photograph_allows_is_refused():
    with pytest.raises(FaceMeshError, match="no photograph can be turned on"):
        plan_turns(np.array([60.0, -70.0]), [YawBand(20, 40, 1)], 10, seed=0)


def test_bands_as_text():
    assert parse_yaw_band("20-90") == YawBand(20, 90, 1)
    assert parse_yaw_band("12.5-30:2") == YawBand(12.5, 30, 2)


@pytest.mark.parametrize("text", ["", "20", "90-20", "20-20", "20-95", "20-90:0", "1.2.3-9", "a-b", "-5-20"])
def test_bad_bands_are_usage_errors(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_yaw_band(text)
