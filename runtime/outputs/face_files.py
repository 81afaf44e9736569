"""Files of one face: texture, visibility, frontal mesh, and an OBJ with texture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.geometry.camera import fit_camera
from runtime.outputs.map_files import write_picture
from runtime.outputs.mesh_files import format_rows, upright, write_ply
from runtime.outputs.names import OutputNames
from runtime.rendering.colours import vertex_colours
from runtime.rendering.maps import visible_vertices
from runtime.rendering.texture import TextureMapper
from runtime.storage.whole_files import whole_file
from runtime.types import FaceMesh, Frame, MeshTopology

FACE_FORMATS = ("texture", "textured", "visibility", "frontal")
TEXTURE_SIZE = 512  # px, unless another is asked for


class FaceFileSink:
    """Sink for files of faces: one for every face and kind."""

    def __init__(
        self, names: OutputNames, formats: Sequence[str], topology: MeshTopology, texture_size: int = TEXTURE_SIZE
    ) -> None:
        """Take the names of the files, some of `FACE_FORMATS`, the topology of the faces and the side of textures, px.

        Raises `FaceMeshError` for a size that no texture can have.
        """
        self._names = names
        self._formats = formats
        self._topology = topology
        self._mapper = TextureMapper(topology, texture_size)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the files of one picture's faces; raises `FaceMeshError` if one cannot be written."""
        writers = {
            "texture": self._write_texture,
            "textured": self._write_textured,
            "visibility": self._write_visibility,
            "frontal": self._write_frontal,
        }
        for index, face in enumerate(faces):
            for name in self._formats:
                writers[name](frame, index, face)

    def close(self) -> None:
        """Do nothing: every file is complete once written."""

    @cached_property
    def _textured(self) -> TexturedWriter:
        return TexturedWriter(self._topology)

    def _write_texture(self, frame: Frame, index: int, face: FaceMesh) -> None:
        write_picture(self._names.face(frame, index, "_texture.png"), self._mapper.texture(frame.image, face))

    def _write_textured(self, frame: Frame, index: int, face: FaceMesh) -> None:
        texture = self._mapper.texture(frame.image, face)
        self._textured.write(self._names.face(frame, index, "_textured.obj"), face, texture)

    def _write_visibility(self, frame: Frame, index: int, face: FaceMesh) -> None:
        visible = visible_vertices(face, self._topology, frame.image.shape[1::-1])
        with whole_file(self._names.face(frame, index, "_visibility.npy")) as file:
            np.save(file, visible)

    def _write_frontal(self, frame: Frame, index: int, face: FaceMesh) -> None:
        vertices = fit_camera(face, self._topology).frontal(face.vertices)
        colours = vertex_colours(frame.image, face.vertices)
        unit = "x right, y up, z towards the viewer; pose removed, units of the mean face"
        write_ply(self._names.face(frame, index, "_frontal.ply"), vertices, colours, self._topology.triangles, unit)


class TexturedWriter:
    """Writer of OBJ files with texture: ``NAME.obj``, ``NAME.mtl`` and ``NAME.png``; the OBJ comes last."""

    def __init__(self, topology: MeshTopology) -> None:
        """Format the parts that all faces share: texture coordinates and triangles."""
        corners = np.repeat(topology.triangles[:, ::-1] + 1, 2, axis=1)
        self._shared = format_rows("vt %.6f %.6f\n", topology.uv) + b"usemtl face\n"
        self._shared += format_rows("f %d/%d %d/%d %d/%d\n", corners)

    def write(self, path: Path, face: FaceMesh, texture: NDArray[np.uint8]) -> None:
        """Write ``face`` to ``path`` and the two files beside it; ``texture`` (size, size, 3) uint8 is BGR."""
        material, picture = path.with_suffix(".mtl"), path.with_suffix(".png")
        write_picture(picture, texture)
        with whole_file(material) as file:
            lines = "newmtl face", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "illum 1", f"map_Kd {picture.name}", ""
            file.write("\n".join(lines).encode("utf-8"))
        with whole_file(path) as file:
            file.write(b"# x right, y up, z towards the viewer; pixels of the picture\n")
            file.write(f"mtllib {material.name}\n".encode())
            file.write(format_rows("v %.3f %.3f %.3f\n", upright(face.vertices)))
            file.write(self._shared)
