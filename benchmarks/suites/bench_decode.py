"""From the network's output to vertices and landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np

from runtime.families.table import open_family

MATRIX = np.array([[0.5, 0, 3], [0, 0.5, 2]])


def test_decode(measured, runner):
    output = np.full(runner.spec.output_shape, 0.5, np.float32)
    vertices, landmarks = measured(open_family(runner.spec).decoder(), output, MATRIX)
    assert landmarks.shape == (68, 3)
    assert len(vertices) > 68


def test_decode_of_a_full_map(measured, runner):
    """PRNet's 256 px, as large as the topology's grid."""
    output = dataclasses.replace(runner.spec.output, size=open_family(runner.spec).topology.resolution)
    spec = dataclasses.replace(runner.spec, output=output)
    measured(open_family(spec).decoder(), np.full(spec.output_shape, 0.5, np.float32), MATRIX)
