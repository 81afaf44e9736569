"""One face as a file: OBJ and PLY with vertex colours for MeshLab and Blender, NPZ with the arrays, NPY with a map.

OBJ and PLY turn the frame's pixels (x right, y down, z towards the camera) into the axes of 3D programs: y up, so y is
negated and every triangle runs the other way round to keep facing outwards. NPZ keeps the pixels, as does NPY, the UV
position map in PRNet's layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.rendering.colours import vertex_colours
from runtime.storage.whole_files import whole_file
from runtime.types import FaceMesh, MeshTopology

MESH_FORMATS = ("obj", "ply", "npz", "npy")


class MeshWriter:
    """Writer of faces of one topology; their common triangles are formatted once."""

    def __init__(self, topology: MeshTopology) -> None:
        """Take the triangles of ``topology``."""
        self._topology = topology
        self._triangles = topology.triangles
        self._obj_faces: bytes | None = None

    def write(self, path: Path, face: FaceMesh, image: NDArray[np.uint8]) -> None:
        """Write ``face`` in the format of ``path``'s suffix, with the colours of its picture (H, W, 3) uint8 BGR."""
        writers = {".obj": self._write_obj, ".ply": self._write_ply, ".npz": self._write_npz, ".npy": self._write_npy}
        writers[path.suffix](path, face, image)

    def _write_obj(self, path: Path, face: FaceMesh, image: NDArray[np.uint8]) -> None:
        if self._obj_faces is None:
            self._obj_faces = format_rows("f %d %d %d\n", self._triangles[:, ::-1] + 1)
        rows = np.hstack([upright(face.vertices), vertex_colours(image, face.vertices) / 255])
        with whole_file(path) as file:
            file.write(b"# x right, y up, z towards the viewer; pixels of the picture; colours red green blue 0..1\n")
            file.write(format_rows("v %.3f %.3f %.3f %.4f %.4f %.4f\n", rows))
            file.write(self._obj_faces)

    def _write_ply(self, path: Path, face: FaceMesh, image: NDArray[np.uint8]) -> None:
        unit = "x right, y up, z towards the viewer; pixels of the picture"
        write_ply(path, face.vertices, vertex_colours(image, face.vertices), self._triangles, unit)

    def _write_npz(self, path: Path, face: FaceMesh, image: NDArray[np.uint8]) -> None:
        colours = np.rint(vertex_colours(image, face.vertices)).astype(np.uint8)
        with whole_file(path) as file:
            np.savez(
                file,
                vertices=face.vertices,
                landmarks=face.landmarks,
                box_xyxy=face.box_xyxy,
                score=np.float32(face.score),
                confidence=np.float32(np.nan if face.confidence is None else face.confidence),
                pose_yaw_pitch_roll_deg=np.array(face.pose.angles_deg, np.float32),
                triangles=self._triangles,
                colours_rgb=colours,
            )

    def _write_npy(self, path: Path, face: FaceMesh, image: NDArray[np.uint8]) -> None:
        with whole_file(path) as file:
            np.save(file, self._topology.position_map(face.vertices))


def write_ply(
    path: Path, vertices: NDArray[np.float32], colours: NDArray[np.float32], triangles: NDArray[np.int32], comment: str
) -> None:
    """Write a binary PLY file of a mesh in the axes of the frame; ``colours`` are (V, 3) RGB 0..255."""
    points = np.empty(len(vertices), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    points["xyz"] = upright(vertices)
    points["rgb"] = np.rint(colours)
    faces = np.empty(len(triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"] = 3
    faces["corners"] = triangles[:, ::-1]
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment {comment}\n"
        f"element vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    with whole_file(path) as file:
        file.write(header.encode("ascii"))
        file.write(points.tobytes())
        file.write(faces.tobytes())


def upright(vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (V, 3) vertices with y up instead of down."""
    return vertices * np.array([1, -1, 1], np.float32)


def format_rows(line: str, rows: NDArray[Any]) -> bytes:
    """Return ``line`` filled in by every row; one formatting operation is three times as fast as ``np.savetxt``."""
    return ((line * len(rows)) % tuple(rows.ravel().tolist())).encode("ascii")
