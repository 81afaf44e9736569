"""This runtime and 3DDFA_V2's published steps around the same ONNX file of mb05, with the same vertices and without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.accuracy.labelled_faces import FaceSet
from benchmarks.peers.interface import Peer
from benchmarks.peers.this_runtime import runtime_peer
from runtime.errors import FaceMeshError
from runtime.families.model_topology import FaceModelTopology
from runtime.models.spec import ModelSpec
from training.networks.coefficients import Whitening

SIZE = 120  # px
SPLIT = (12, 40, 10)  # numbers of pose, shape and expression that the published steps know


def same_network_peers(
    engine: Path,
    spec: ModelSpec,
    faces: FaceSet,
    threads: int,
    landmarks_from: Path | None = None,
    per_picture: int = 1,
) -> tuple[dict[str, Callable[[], Peer]], list[str]]:
    """Return functions that open the peers, by name, and a line about those that do not know this network.

    ``spec`` is that of the ONNX file ``engine``, a network of coefficients. A picture has ``per_picture`` faces. Raises
    `FaceMeshError` for several faces of a network with a landmark channel.
    """
    if per_picture > 1 and spec.input.landmark_channel:
        raise FaceMeshError(f"--faces-per-picture: {spec.name} takes landmarks, of one face at a time; leave it out")
    output = spec.output
    whitening = Whitening(np.array(output.mean, np.float32), np.array(output.std, np.float32))
    split = (output.pose_count, output.shape_count, output.expression_count)
    is_published = split == SPLIT and spec.input.size == SIZE and not spec.input.landmark_channel

    def this_runtime(dense: bool) -> Peer:
        from benchmarks.peers.mb05 import without_neck

        topology = FaceModelTopology(without_neck(faces.model))
        return runtime_peer(engine, threads, topology, dense, landmarks_from, per_picture)

    def published(dense: bool, name: str) -> Peer:
        from benchmarks.peers.mb05 import Mb05Steps, staged, without_neck

        model = without_neck(faces.model)
        return staged(Mb05Steps(engine.read_bytes(), whitening, model, threads, dense), name, per_picture)

    openers: dict[str, Callable[[], Peer]] = {}
    for dense, ending in ((True, ""), (False, ", landmarks alone")):
        openers[f"this runtime{ending}"] = partial(this_runtime, dense)
        if is_published:
            openers[f"3DDFA_V2 mb05{ending}"] = partial(published, dense, f"3DDFA_V2 mb05{ending}")
    network = f"{output.describe()} from {spec.input.size} px{' and landmarks' * spec.input.landmark_channel}"
    fault = f"3DDFA_V2 mb05: not measured, its steps are for 12 + 40 + 10 from {SIZE} px, this is {network}"
    return openers, [] if is_published else [fault]
