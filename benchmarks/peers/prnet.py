"""PRNet's published Python steps (Feng et al., ECCV 2018) around this runtime's network. Home of scikit-image.

The steps are the ones of its ``api.PRN`` (MIT licence): `process` for a face with a known landmark box, `get_vertices`
and `get_landmarks`. If the network's map is smaller than the topology's grid, ``cv2.resize`` enlarges it first; PRNet's
own network does not need that.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.transform import SimilarityTransform, estimate_transform, warp

from benchmarks.peers.interface import StagedPeer
from benchmarks.records.measured_faces import Face
from runtime.families.uv_topology import UVTopology, load_topology
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner


class PRNetSteps:
    """Crop, network and decode around an open runner."""

    def __init__(self, runner: Runner, topology: UVTopology) -> None:
        self._runner = runner
        self._topology = topology

    def crop(self, face: Face) -> tuple[NDArray[np.float64], SimilarityTransform]:
        """Return the crop (S, S, 3) float64 0..1 in the network's colour order, and its transform."""
        # The square around the box, as published.
        spec = self._runner.spec
        image = face.image[:, :, ::-1] if spec.input.colour_order == "RGB" else face.image
        left, top, right, bottom = (float(value) for value in face.box_xyxy)
        old_size = (right - left + bottom - top) / 2
        centre = np.array([right - (right - left) / 2.0, bottom - (bottom - top) / 2.0])
        size = int(old_size * spec.crop_scale)
        corners = ((-size / 2, -size / 2), (-size / 2, size / 2), (size / 2, -size / 2))
        source = np.array([centre + corner for corner in corners])

        # Its three corners go to the corners of the crop.
        last = spec.input.size - 1
        transform = estimate_transform("similarity", source, np.array([[0, 0], [0, last], [last, 0]]))
        crop = warp(image / 255.0, transform.inverse, output_shape=(spec.input.size, spec.input.size))
        return crop, transform

    def network(
        self, crop: tuple[NDArray[np.float64], SimilarityTransform]
    ) -> tuple[NDArray[np.float32], SimilarityTransform]:
        """Return the position map (M, M, 3) in px of the crop, and the transform."""
        runner = self._runner
        image, transform = crop
        low, high = runner.spec.input.value_range
        is_nchw = runner.spec.input.layout == "NCHW"
        values = image * (high - low) + low
        runner.input[0] = values.transpose(2, 0, 1) if is_nchw else values
        output = runner.infer(1)[0] * runner.spec.output.scale
        return output.transpose(1, 2, 0) if is_nchw else output, transform

    def decode(self, output: tuple[NDArray[np.float32], SimilarityTransform]) -> tuple[NDArray, NDArray]:
        """Return vertices (V, 3) and landmarks (68, 3) in px of the photograph."""
        cropped, transform = output
        side = self._topology.resolution
        if cropped.shape[0] != side:
            cropped = cv2.resize(np.ascontiguousarray(cropped), (side, side), interpolation=cv2.INTER_LINEAR)
        points = np.reshape(cropped, [-1, 3]).T
        z = points[2].copy() / transform.params[0, 0]
        points[2] = 1
        points = np.vstack((np.dot(np.linalg.inv(transform.params), points)[:2], z))
        grid = np.reshape(points.T, [side, side, 3])
        flat = np.reshape(grid, [side**2, -1])
        rows, columns = np.divmod(self._topology.landmark_indices, side)
        return flat[self._topology.face_indices], grid[rows, columns]


def prnet_peer(engine: Path, threads: int) -> StagedPeer:
    """Open ``engine`` with PRNet's steps around it."""
    runner = open_runner(engine, max_batch=1, threads=threads)
    topology = load_topology(runner.spec.topology)
    steps = PRNetSteps(runner, topology)
    return StagedPeer(
        name="PRNet's steps",
        note="the same model; crop and decode as published (scikit-image, NumPy)",
        vertices=len(topology.face_indices),
        steps=(("crop", steps.crop), ("network", steps.network), ("decode", steps.decode)),
        landmarks=lambda mesh: mesh[1],
        on_close=runner.close,
    )
