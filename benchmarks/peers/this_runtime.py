"""This runtime as one of the peers: crop, network and decode of one face, without detection and pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.interface import StagedPeer
from benchmarks.records.measured_faces import Face
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into
from runtime.inference.open_runner import open_runner
from runtime.types import MeshTopology

SAMPLED = {"position_map": ": vertices are samples of this map"}


def runtime_peer(engine: Path, threads: int, topology: MeshTopology | None = None, dense: bool = True) -> StagedPeer:
    """Open ``engine`` for one face at a time; ``dense`` False decodes the landmarks alone."""
    runner = open_runner(engine, max_batch=1, threads=threads)
    spec = runner.spec
    family = open_family(spec, topology)
    decode = family.decoder(dense)

    def crop(face: Face) -> NDArray[np.float64]:
        matrix = family.crop_matrix(face.box_xyxy)
        crop_into(face.image, matrix, spec.input, runner.input[0])
        return matrix

    return StagedPeer(
        name=f"this runtime, {spec.precision}" if dense else f"this runtime, {spec.precision}, landmarks alone",
        note=f"model {spec.name}, native crop and decode; {spec.output.describe()}{SAMPLED.get(spec.family, '')}",
        vertices=len(family.topology.canonical_vertices if dense else family.topology.landmark_vertices),
        steps=(
            ("crop", crop),
            ("network", lambda matrix: (runner.infer(1)[0], matrix)),
            ("decode", lambda output: decode(*output)),
        ),
        landmarks=lambda mesh: mesh[1],
        on_close=runner.close,
    )
