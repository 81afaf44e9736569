"""This runtime as one of the peers: crop, network and decode of one face, without detection and pose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.interface import StagedPeer
from benchmarks.records.measured_faces import Face
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.inference.interface import no_landmark_source
from runtime.inference.open_runner import open_runner
from runtime.models.spec import ModelSpec
from runtime.types import MeshTopology

SAMPLED = {"position_map": ": vertices are samples of this map"}


def runtime_peer(
    engine: Path,
    threads: int,
    topology: MeshTopology | None = None,
    dense: bool = True,
    landmarks_from: Path | None = None,
    faces: int = 1,
) -> StagedPeer:
    """Open ``engine`` for so many ``faces`` of a picture at a time; ``dense`` False decodes the landmarks alone.

    A network with a landmark channel is given those of the network ``landmarks_from``, whose time is a stage of its
    own. Raises `FaceMeshError` if it is missing, or if nothing would use it.
    """
    runner = open_runner(engine, max_batch=faces, threads=threads)
    spec = runner.spec
    family = open_family(spec, topology)
    decode = family.decoder(dense)
    first = _first_network(spec, landmarks_from, threads)

    def crop(face: Face) -> NDArray[np.float64]:
        matrix = family.crop_matrix(face.box_xyxy)
        crop_into(face.image, matrix, spec.input, runner.input[0])
        return matrix

    def crop_and_draw(known: tuple[Face, NDArray[np.float32]]) -> NDArray[np.float64]:
        face, landmarks = known
        matrix = crop(face)
        draw_landmarks(landmarks, matrix, runner.input[0])
        return matrix

    def crop_all(face: Face) -> list[NDArray[np.float64]]:
        matrices = [family.crop_matrix(box) for box in face.box_xyxy]
        for matrix, slot in zip(matrices, runner.input, strict=True):
            crop_into(face.image, matrix, spec.input, slot)
        return matrices

    def close() -> None:
        runner.close()
        if first is not None:
            first.close()

    several = (
        ("crop", crop_all),
        ("network", lambda matrices: (runner.infer(faces), matrices)),
        ("decode", lambda output: decode.batch(*output)),
    )
    single = (
        *(() if first is None else (("first network", lambda face: (face, first.find(face))),)),
        ("crop", crop if first is None else crop_and_draw),
        ("network", lambda matrix: (runner.infer(1)[0], matrix)),
        ("decode", lambda output: decode(*output)),
    )
    return StagedPeer(
        name=f"this runtime, {spec.precision}" if dense else f"this runtime, {spec.precision}, landmarks alone",
        note=f"model {spec.name}, native crop and decode; {spec.output.describe()}{SAMPLED.get(spec.family, '')}",
        vertices=len(family.topology.canonical_vertices if dense else family.topology.landmark_vertices),
        steps=single if faces == 1 else several,
        landmarks=lambda found: found[1] if faces == 1 else np.stack([mesh[1] for mesh in found]),
        on_close=close,
        faces=faces,
    )


def _first_network(spec: ModelSpec, landmarks_from: Path | None, threads: int) -> StagedPeer | None:
    """Open the network that finds landmarks for one with a landmark channel; None for others."""
    if spec.input.landmark_channel and landmarks_from is None:
        raise no_landmark_source(spec)
    if not spec.input.landmark_channel and landmarks_from is not None:
        raise FaceMeshError(f"{spec.name} takes no landmarks beside the picture; leave --landmarks-from out")
    return None if landmarks_from is None else runtime_peer(landmarks_from, threads, dense=False)
