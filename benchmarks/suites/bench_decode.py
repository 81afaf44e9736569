"""From the position map to vertices and landmarks."""

from __future__ import annotations

import dataclasses

import numpy as np

from runtime.families.position_map import Decoder
from runtime.families.uv_topology import load_topology

MATRIX = np.array([[0.5, 0, 3], [0, 0.5, 2]])


def test_decode(measured, runner):
    side = runner.spec.output.size
    decode = Decoder(load_topology(runner.spec.topology), runner.spec)
    vertices, landmarks = measured(decode, np.full((3, side, side), 0.5, np.float32), MATRIX)
    assert landmarks.shape == (68, 3)
    assert len(vertices) > 68


def test_decode_of_a_full_map(measured, runner):
    """PRNet's 256 px, as large as the topology's grid."""
    topology = load_topology(runner.spec.topology)
    spec = dataclasses.replace(runner.spec, output=dataclasses.replace(runner.spec.output, size=topology.resolution))
    measured(Decoder(topology, spec), np.full((3, topology.resolution, topology.resolution), 0.5, np.float32), MATRIX)
