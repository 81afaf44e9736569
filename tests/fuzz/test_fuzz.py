"""Some cases of every fuzz target with one seed; ``make fuzz`` runs as many as one likes, with others."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS
from tests.standins.bounded_run import is_refused

CASES = 60


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    target = TARGETS[name]
    seeds, path = target.seeds(), Path(tmp_path / f"case{target.suffix}")
    refused = 0
    for number in range(CASES):
        path.write_bytes(target.wrap(mutated(seeds, 1, number)))
        refused += is_refused(target.read, path)
    assert 0 < refused <= CASES


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_sound(name, tmp_path):
    """Otherwise the cases would not get beyond the first check."""
    target = TARGETS[name]
    for number, seed in enumerate(target.seeds()):
        path = tmp_path / f"seed{number}{target.suffix}"
        path.write_bytes(target.wrap(seed))
        assert is_refused(target.read, path) == (name == "npy-in-npz")  # one array of the several that a set has


def test_a_case_is_given_by_seed_and_number():
    seeds = [bytes(range(200))]
    assert mutated(seeds, 1, 7) == mutated(seeds, 1, 7) != mutated(seeds, 2, 7)
