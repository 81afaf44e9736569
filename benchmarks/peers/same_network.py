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

SPLIT = (12, 40, 10)  # numbers of pose, shape and expression that the published steps know


def same_network_peers(engine: Path, spec: ModelSpec, faces: FaceSet, threads: int) -> dict[str, Callable[[], Peer]]:
    """Return functions that open the four peers, by name; ``spec`` is that of the ONNX file ``engine``.

    Raises `FaceMeshError` for a network that is not 3DDFA_V2's.
    """
    output = spec.output
    split = (output.pose_count, output.shape_count, output.expression_count)
    if split != SPLIT or spec.input.size != 120:
        problem = f"its numbers are {output.describe()} from {spec.input.size} px"
        raise FaceMeshError(f"{engine}: {problem}, the published steps are for 12 + 40 + 10 from 120 px; give mb05")
    whitening = Whitening(np.array(output.mean, np.float32), np.array(output.std, np.float32))

    def this_runtime(dense: bool) -> Peer:
        from benchmarks.peers.mb05 import without_neck

        return runtime_peer(engine, threads, FaceModelTopology(without_neck(faces.model)), dense)

    def published(dense: bool, name: str) -> Peer:
        from benchmarks.peers.mb05 import Mb05Steps, staged, without_neck

        model = without_neck(faces.model)
        return staged(Mb05Steps(engine.read_bytes(), whitening, model, threads, dense), name)

    openers: dict[str, Callable[[], Peer]] = {}
    for dense, ending in ((True, ""), (False, ", landmarks alone")):
        openers[f"this runtime{ending}"] = partial(this_runtime, dense)
        openers[f"3DDFA_V2 mb05{ending}"] = partial(published, dense, f"3DDFA_V2 mb05{ending}")
    return openers
