"""The gate on the real runtime: it catches a fifth more work in decode, and stays quiet without a change.

`tests.programs.gate_trial` does it ten times.
"""

from __future__ import annotations

import pytest

from tests.programs.gate_trial import built_here, calibrated, right, trial


@pytest.mark.slow
def test_a_slower_decode_is_caught_and_no_change_is_none():
    with built_here() as (root, settings):
        slowdown = calibrated(root, settings, 0.2)
        assert 0.15 < slowdown["share"] < 0.3
        for again in (0, slowdown["again"]):
            judgements = trial(root, settings, again, 40, seed=0)
            assert right(judgements, again), judgements
