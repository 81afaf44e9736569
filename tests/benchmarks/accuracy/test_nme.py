"""Summaries that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.accuracy.nme import summarise


def test_balanced_is_the_mean_of_the_bins_and_missed_faces_do_not_count():
    score = summarise(np.array([1.0, 3.0, 4.0, 6.0, math.nan]), np.array([0, 0, 1, 2, 2]))
    assert (score.faces, score.mean, score.bins, score.balanced) == (4, 3.5, (2.0, 4.0, 6.0), 4.0)


def test_an_empty_bin_leaves_nothing_to_balance():
    score = summarise(np.array([1.0, 2.0]), np.array([0, 1]))
    assert score.mean == 1.5
    assert math.isnan(score.bins[2])
    assert math.isnan(score.balanced)


def test_all_missed():
    score = summarise(np.array([math.nan]), np.array([0]))
    assert score.faces == 0
    assert math.isnan(score.mean)
