"""The gate on the real runtime: it catches a decode that takes a third more, and stays quiet without a change.

`tests.programs.gate_trial` does it ten times with a fifth, which wants more time on a busy machine.
"""

from __future__ import annotations

import pytest

from tests.programs.gate_trial import built_here, calibrated, right, trial


@pytest.mark.slow
def test_a_slower_decode_is_caught_and_no_change_is_none():
    with built_here() as (root, settings):
        slowdown = calibrated(root, settings, 1 / 3)
        for again in (0, slowdown["again"]):
            judgements = trial(root, settings, again, 60, seed=0)
            assert right(judgements, again), (slowdown, judgements)
