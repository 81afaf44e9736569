"""This runtime as one of the peers: crop, network and decode of one face, without detection and pose."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.interface import StagedPeer
from benchmarks.records.measured_faces import Face
from runtime.families.position_map import Decoder
from runtime.families.uv_topology import load_topology
from runtime.geometry.crop import crop_into, crop_matrix
from runtime.inference.open_runner import open_runner


def runtime_peer(engine: Path | None, threads: int) -> StagedPeer:
    """The shipped model or ``engine``, opened for one face at a time."""
    runner = open_runner(engine, max_batch=1, threads=threads)
    spec = runner.spec
    topology = load_topology(spec.topology)
    decode = Decoder(topology, spec)

    def crop(face: Face):
        matrix = crop_matrix(face.box_xyxy, spec.crop_scale, spec.input.size)
        crop_into(face.image, matrix, spec.input, runner.input[0])
        return matrix

    return StagedPeer(
        name="this runtime",
        note=f"model {spec.name}, {spec.precision}, native crop and decode",
        vertices=len(topology.face_indices),
        steps=(
            ("crop", crop),
            ("network", lambda matrix: (runner.infer(1)[0], matrix)),
            ("decode", lambda output: decode(*output)),
        ),
        landmarks=lambda mesh: mesh[1],
        on_close=runner.close,
    )
