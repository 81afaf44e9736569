"""The network."""

from __future__ import annotations


def test_one_face(measured, runner):
    measured(runner.infer, 1)


def test_four_faces(measured, runner):
    measured(runner.infer, 4, rounds=300)
