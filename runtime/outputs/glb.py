"""GLB (binary glTF 2.0): a face with texture, and for a film one head per person that moves as it did. Home of
pygltflib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib as gltf
from numpy.typing import NDArray

from runtime.geometry.camera import Camera, fit_camera
from runtime.geometry.pose import rotation_to_quaternion
from runtime.outputs.map_files import encode
from runtime.outputs.names import OutputNames
from runtime.rendering.colours import vertex_normals
from runtime.rendering.texture import TextureMapper
from runtime.storage.whole_files import whole_file
from runtime.types import FaceMesh, Frame, MeshTopology

EYES_METRES = 0.09  # between the outer corners of an adult's eyes: glTF counts in metres
JPEG_QUALITY = 92
Y_UP = np.diag([1.0, -1.0, 1.0])
MIRROR_Y = np.array([1, -1, 1], np.float32)


@dataclass(eq=False)
class _Head:
    """One person of a film so far."""

    frontal: NDArray[np.float64]  # sum of the frontal meshes, units of the mean face
    times: list[float] = field(default_factory=list)
    translations: list[NDArray[np.float64]] = field(default_factory=list)  # m
    rotations: list[NDArray[np.float64]] = field(default_factory=list)  # quaternions x, y, z, w
    scales: list[float] = field(default_factory=list)
    least_turn: float = np.inf  # degrees to the camera in the frame of the texture
    texture: bytes = b""


class GlbSink:
    """Sink for GLB files: ``name_face0.glb`` for every face of a photo, ``name_person1.glb`` for every one of a film.

    The file of a film has the person's mean shape, the texture of the frame that looks most into the camera, and an
    animation of place, rotation and size; expressions do not move. It is written when the film ends.
    """

    def __init__(self, names: OutputNames, topology: MeshTopology, texture_size: int, is_film: bool) -> None:
        """Take the names of the files, the topology of the faces and the side of the textures, px."""
        self._names = names
        self._topology = topology
        self._mapper = TextureMapper(topology, texture_size)
        self._is_film = is_film
        self._heads: dict[int, _Head] = {}
        self._frame: Frame | None = None
        eyes = topology.canonical_vertices[topology.landmark_vertices[[36, 45]]]
        distance = float(np.linalg.norm(eyes[1] - eyes[0]))
        self._metres = EYES_METRES / max(distance, 1e-9)  # in a unit of the mean face
        self._centre = topology.canonical_vertices.astype(np.float64).mean(axis=0)

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Write the faces of a photo, or remember the faces of a frame; raises `FaceMeshError`."""
        self._frame = frame
        for index, face in enumerate(faces):
            camera = fit_camera(face, self._topology)
            head = self._heads.get(_number(face, index)) if self._is_film else None
            if head is None:
                head = _Head(np.zeros_like(face.vertices, np.float64))
            self._add(head, frame, face, camera)
            if self._is_film:
                self._heads[_number(face, index)] = head
            else:
                self._save(self._names.face(frame, index, ".glb"), head)

    def close(self) -> None:
        """Write one file for every person of a film; raises `FaceMeshError`."""
        for number, head in self._heads.items():
            assert self._frame is not None  # there is no head without one
            self._save(self._names.source(self._frame, f"_person{number}.glb"), head)
        self._heads.clear()

    def _add(self, head: _Head, frame: Frame, face: FaceMesh, camera: Camera) -> None:
        """Add one frame of a person."""
        height, width = frame.image.shape[:2]
        middle = np.array([(width - 1) / 2, (height - 1) / 2, 0])
        place = camera.matrix @ np.append(self._centre, 1) - middle
        # The first frame says how many pixels a metre has.
        first = head.scales[0] if head.scales else camera.scale
        metres_per_px = self._metres / first
        head.frontal += camera.frontal(face.vertices) - self._centre
        head.times.append(frame.timestamp_s)
        head.translations.append(place * (1, -1, 0) * metres_per_px)
        head.rotations.append(rotation_to_quaternion(Y_UP @ camera.rotation @ Y_UP))
        head.scales.append(camera.scale)
        turn = np.degrees(np.arccos(np.clip(camera.rotation[2, 2], -1, 1)))
        if turn < head.least_turn - 1 or not head.texture:
            head.least_turn = turn
            _, head.texture = encode(".jpg", self._mapper.completed(frame.image, face), JPEG_QUALITY)

    def _save(self, path: Path, head: _Head) -> None:
        vertices = (head.frontal / len(head.times) * (1, -1, 1) * self._metres).astype(np.float32)
        normals = vertex_normals(vertices * MIRROR_Y, self._topology) * MIRROR_Y
        document = _Document()
        uv = self._topology.uv * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
        corners = np.ascontiguousarray(self._topology.triangles[:, ::-1]).ravel().astype(np.uint32)
        document.add_mesh(vertices, normals, uv, corners, head.texture)
        document.place(head.translations[0], head.rotations[0])
        if self._is_film and len(head.times) > 1:
            times = np.array(head.times, np.float32)
            later = np.append(True, np.diff(times) > 0)  # glTF wants times that rise
            scales = np.repeat(np.array(head.scales)[:, None] / head.scales[0], 3, axis=1)
            tracks = {"translation": head.translations, "rotation": _continuous(head.rotations), "scale": scales}
            document.animate(times[later], {key: np.array(track)[later] for key, track in tracks.items()})
        with whole_file(path) as file:
            file.write(document.to_bytes())


class _Document:
    """A glTF document with one node in the making."""

    def __init__(self) -> None:
        self._gltf = gltf.GLTF2(asset=gltf.Asset(generator="facemesh-edge"))
        self._blob = bytearray()
        self._node = gltf.Node(name="head", mesh=0)

    def add_mesh(
        self,
        vertices: NDArray[np.float32],
        normals: NDArray[np.float32],
        uv: NDArray[np.float32],
        corners: NDArray[np.uint32],
        jpeg: bytes,
    ) -> None:
        """Add the mesh with its texture."""
        document = self._gltf
        attributes = gltf.Attributes(
            POSITION=self._accessor(vertices, "VEC3", gltf.ARRAY_BUFFER),
            NORMAL=self._accessor(normals, "VEC3", gltf.ARRAY_BUFFER),
            TEXCOORD_0=self._accessor(uv, "VEC2", gltf.ARRAY_BUFFER),
        )
        indices = self._accessor(corners, "SCALAR", gltf.ELEMENT_ARRAY_BUFFER)
        document.meshes = [gltf.Mesh(primitives=[gltf.Primitive(attributes=attributes, indices=indices, material=0)])]
        document.images = [gltf.Image(bufferView=self._view(jpeg), mimeType="image/jpeg")]
        document.samplers = [gltf.Sampler(wrapS=gltf.CLAMP_TO_EDGE, wrapT=gltf.CLAMP_TO_EDGE)]
        document.textures = [gltf.Texture(source=0, sampler=0)]
        colour = gltf.PbrMetallicRoughness(
            baseColorTexture=gltf.TextureInfo(index=0), metallicFactor=0.0, roughnessFactor=1.0
        )
        document.materials = [gltf.Material(pbrMetallicRoughness=colour, doubleSided=True)]
        document.nodes = [self._node]
        document.scenes = [gltf.Scene(nodes=[0])]
        document.scene = 0

    def place(self, translation: NDArray[np.float64], rotation: NDArray[np.float64]) -> None:
        """Place the node, in metres and by a quaternion x, y, z, w."""
        self._node.translation = translation.tolist()
        self._node.rotation = rotation.tolist()

    def animate(self, times: NDArray[np.float32], tracks: dict[str, NDArray[np.float64]]) -> None:
        """Move the node along ``tracks``: its property -> (n, 3 or 4) values at the ``times`` (n,) s."""
        clock = self._accessor(times, "SCALAR")
        animation = gltf.Animation(name="film")
        for index, (path, values) in enumerate(tracks.items()):
            output = self._accessor(values.astype(np.float32), f"VEC{values.shape[1]}")
            animation.samplers.append(gltf.AnimationSampler(input=clock, output=output, interpolation="LINEAR"))
            target = gltf.AnimationChannelTarget(node=0, path=path)
            animation.channels.append(gltf.AnimationChannel(sampler=index, target=target))
        self._gltf.animations = [animation]

    def to_bytes(self) -> bytes:
        """Return the file."""
        self._gltf.buffers = [gltf.Buffer(byteLength=len(self._blob))]
        self._gltf.set_binary_blob(bytes(self._blob))
        return b"".join(self._gltf.save_to_bytes())

    def _view(self, data: bytes, target: int | None = None) -> int:
        view = gltf.BufferView(buffer=0, byteOffset=len(self._blob), byteLength=len(data), target=target)
        self._blob += data + bytes(-len(data) % 4)
        self._gltf.bufferViews.append(view)
        return len(self._gltf.bufferViews) - 1

    def _accessor(self, values: NDArray[Any], kind: str, target: int | None = None) -> int:
        rows = values.reshape(len(values), -1)
        self._gltf.accessors.append(
            gltf.Accessor(
                bufferView=self._view(np.ascontiguousarray(values).tobytes(), target),
                componentType=gltf.UNSIGNED_INT if values.dtype == np.uint32 else gltf.FLOAT,
                count=len(values),
                type=kind,
                min=rows.min(axis=0).tolist(),
                max=rows.max(axis=0).tolist(),
            )
        )
        return len(self._gltf.accessors) - 1


def _number(face: FaceMesh, index: int) -> int:
    """Return the number of a face's person, its place in the frame for faces that are not tracked."""
    return index + 1 if face.track_id is None else face.track_id


def _continuous(quaternions: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the quaternions (n, 4) with the signs that make each the nearest to the one before."""
    values = np.array(quaternions)
    turns = np.where((values[1:] * values[:-1]).sum(axis=1) < 0, -1.0, 1.0)
    return values * np.cumprod(np.append(1.0, turns))[:, None]
