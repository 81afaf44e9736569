"""The overlay: a translucent shaded mesh, the 68 landmarks, the box and the head's axes, drawn over the picture.

A face whose landmarks are more likely wrong than right looks unsure: a pale grey mesh, amber lines, a dashed box and
the confidence in percent. The number of a tracked person stands above the box.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.compiled import native
from runtime.geometry.pose import pose_to_rotation
from runtime.rendering.colours import vertex_normals
from runtime.rendering.maps import face_size, faces_by_size
from runtime.types import FaceMesh, MeshTopology

# The lines that connect the 68 points of iBUG 300-W: first, last, closed.
CONTOURS = (
    (0, 16, False),  # jaw
    (17, 21, False),  # brows
    (22, 26, False),
    (27, 30, False),  # nose
    (31, 35, False),
    (36, 41, True),  # eyes
    (42, 47, True),
    (48, 59, True),  # lips
    (60, 67, True),
)
# Colours are BGR.
MESH_COLOUR = np.array([255, 200, 130], np.float32)
GRID_COLOUR = np.array([255, 244, 214], np.float32)
LANDMARK_COLOUR = (110, 255, 200)
POINT_COLOUR = (255, 255, 255)
BOX_COLOUR = (255, 255, 255)
UNSURE_BELOW = 0.5  # of the confidence
UNSURE_MESH_COLOUR = np.array([190, 190, 190], np.float32)
UNSURE_COLOUR = (40, 180, 255)  # amber
UNSURE_ALPHA = 0.5  # of the mesh, relative to a sure one
LABEL_PX = 9  # least height of the confidence in the picture
AXIS_COLOURS = ((70, 70, 240), (80, 200, 60), (240, 140, 50))  # x to the person's left, y up, z out of the face
LIGHT = np.array([-0.45, -0.55, 0.70], np.float32)  # direction to the light: above, left, and from the camera
MESH_ALPHA = 0.55
GRID_ALPHA = 0.22
GRID_STEP = 8  # px of the UV grid between two lines of the mesh
SOFT_BORDER = 14  # px of the UV grid over which the mesh fades out
# Small faces are drawn two to four times as large, towards this size in px, and scaled down: thin and smooth lines.
FINE_SIDE = 450
LARGE_SIDE = 1000  # px: larger faces are drawn as they are
SHIFT = 4  # cv2 draws at 1/16 px
# A landmark this far behind the surface, in sizes of the face, still counts as visible. The surface turns away at the
# jaw, so that its landmarks get more.
DEPTH_TOLERANCE = np.repeat([0.35, 0.15], [17, 51]).astype(np.float32)


class OverlayPainter:
    """Painter of overlays for one topology."""

    def __init__(self, topology: MeshTopology) -> None:
        """Compute the parts that all faces share: the fading border and the grid."""
        self._topology = topology
        self._fade = np.clip(topology.border_distance() / SOFT_BORDER, 0, 1).astype(np.float32)[:, None]
        self._grid = topology.grid_lines(GRID_STEP).astype(np.float32)[:, None]

    def draw(self, image: NDArray[np.uint8], faces: Sequence[FaceMesh]) -> NDArray[np.uint8]:
        """Return a copy of the picture (H, W, 3) uint8 BGR with ``faces`` drawn over it, small ones first."""
        canvas = image.copy()
        for face in faces_by_size(faces):
            corner, below = _region(canvas, face)
            if below.size == 0:
                continue
            factor = _enlargement(face_size(face))
            # Repeating pixels and taking their mean again does not change pixels without drawing.
            fine = below.repeat(factor, axis=0).repeat(factor, axis=1)
            self._draw_face(fine, _moved(face, corner, factor), factor)
            below[:] = cv2.resize(fine, below.shape[1::-1], interpolation=cv2.INTER_AREA)
        return canvas

    def _draw_face(self, canvas: NDArray[np.uint8], face: FaceMesh, factor: int) -> None:
        depth = self._draw_mesh(canvas, face)
        _draw_landmarks(canvas, face, _in_front(face.landmarks, depth, DEPTH_TOLERANCE * face_size(face)))
        if _is_unsure(face):
            _draw_unsure_box(canvas, face, factor)
        else:
            _draw_box(canvas, face)
        if face.track_id is not None:
            _draw_track_id(canvas, face, factor)
        _draw_axes(canvas, face)

    def _draw_mesh(self, canvas: NDArray[np.uint8], face: FaceMesh) -> NDArray[np.float32]:
        """Blend the shaded surface into ``canvas`` and return its z-buffer."""
        # Lines closer than a few pixels would only make the surface paler.
        grid = self._grid * np.clip((face_size(face) - 280) / 160, 0, 1)
        normals, alpha = vertex_normals(face.vertices, self._topology), self._fade * (MESH_ALPHA + GRID_ALPHA * grid)
        if _is_unsure(face):
            colours, alpha = _shade(normals, UNSURE_MESH_COLOUR), UNSURE_ALPHA * alpha
        else:
            colours = _shade(normals, MESH_COLOUR) * (1 - 0.6 * grid) + GRID_COLOUR * 0.6 * grid
        values = np.hstack([colours, alpha]).astype(np.float32)
        drawn, depth = native.rasterise(face.vertices, self._topology.triangles, values, canvas.shape[1::-1])
        colour, alpha = drawn[..., :3], drawn[..., 3:]
        colour -= canvas
        colour *= alpha
        colour += canvas
        np.rint(colour, out=canvas, casting="unsafe")
        return depth


def _enlargement(size: float) -> int:
    """Return the factor of enlargement for drawing a face of ``size`` px."""
    if size > LARGE_SIDE:
        return 1
    return min(max(2, math.ceil(FINE_SIDE / max(1.0, size))), 4)


def _is_unsure(face: FaceMesh) -> bool:
    """Return True for landmarks that are more likely wrong than right."""
    return face.confidence is not None and face.confidence < UNSURE_BELOW


def _shade(normals: NDArray[np.float32], colour: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return BGR 0..255 (V, 3): Blinn-Phong on ``colour`` with a soft second light from the right."""
    light = LIGHT / np.linalg.norm(LIGHT)
    halfway = light + np.array([0, 0, 1], np.float32)
    halfway /= np.linalg.norm(halfway)
    diffuse = 0.30 + 0.62 * np.clip(normals @ light, 0, 1) + 0.16 * np.clip(normals[:, 0], 0, 1)
    shine = 0.28 * np.clip(normals @ halfway, 0, 1) ** 24
    return np.clip(diffuse[:, None] * colour + 255 * shine[:, None], 0, 255).astype(np.float32)


def _in_front(
    points: NDArray[np.float32], depth: NDArray[np.float32], tolerance: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return True for points (n, 3) that are not behind the surface in the z-buffer ``depth`` (H, W).

    Points outside the z-buffer have nothing in front of them.
    """
    height, width = depth.shape
    x, y = np.rint(points[:, 0]).astype(int), np.rint(points[:, 1]).astype(int)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    surface = np.full(len(points), -np.inf, np.float32)
    surface[inside] = depth[y[inside], x[inside]]
    return points[:, 2] >= surface - tolerance


def _draw_landmarks(canvas: NDArray[np.uint8], face: FaceMesh, visible: NDArray[np.bool_]) -> None:
    """Draw the visible landmarks and the lines between neighbours that are both visible."""
    points = np.rint(face.landmarks[:, :2] * 2**SHIFT).astype(int)
    thickness = max(1, round(face_size(face) / 220))
    radius = face_size(face) / 105
    colour, point_colour = (UNSURE_COLOUR,) * 2 if _is_unsure(face) else (LANDMARK_COLOUR, POINT_COLOUR)
    for first, last, closed in CONTOURS:
        loop = [*range(first, last + 1), *([first] if closed else [])]
        for a, b in zip(loop, loop[1:], strict=False):
            if visible[a] and visible[b]:
                cv2.line(canvas, points[a].tolist(), points[b].tolist(), colour, thickness, cv2.LINE_AA, SHIFT)
    for point in points[visible]:
        cv2.circle(canvas, point.tolist(), round(radius * 2**SHIFT), point_colour, cv2.FILLED, cv2.LINE_AA, SHIFT)


def _draw_box(canvas: NDArray[np.uint8], face: FaceMesh) -> None:
    """Draw the four corners of the box."""
    x1, y1, x2, y2 = face.box_xyxy.tolist()
    arm = 0.12 * face_size(face)
    thickness = max(1, round(face_size(face) / 220))
    for x, towards_x in ((x1, arm), (x2, -arm)):
        for y, towards_y in ((y1, arm), (y2, -arm)):
            corner = np.rint(np.array([[x + towards_x, y], [x, y], [x, y + towards_y]]) * 2**SHIFT).astype(np.int32)
            cv2.polylines(canvas, [corner], False, BOX_COLOUR, thickness, cv2.LINE_AA, SHIFT)


def _draw_unsure_box(canvas: NDArray[np.uint8], face: FaceMesh, factor: int) -> None:
    """Draw the box in dashes, and the confidence below it; ``factor`` is the enlargement of the picture."""
    x1, y1, x2, y2 = face.box_xyxy.tolist()
    thickness = max(1, round(face_size(face) / 160))
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        count = 2 * max(1, round(np.linalg.norm(end - start) / (0.1 * face_size(face)))) + 1  # dashes and gaps
        places = start + (end - start) * np.linspace(0, 1, count + 1)[:, None]
        for first, last in np.rint(places * 2**SHIFT).astype(int).reshape(-1, 2, 2).tolist():
            cv2.line(canvas, first, last, UNSURE_COLOUR, thickness, cv2.LINE_AA, SHIFT)
    height = _label_height(face, factor)
    place = x1, min(y2 + 1.6 * height, canvas.shape[0] - 0.4 * height)
    _draw_label(canvas, f"{100 * (face.confidence or 0.0):.0f} %", place, height, UNSURE_COLOUR)


def _draw_track_id(canvas: NDArray[np.uint8], face: FaceMesh, factor: int) -> None:
    """Draw the number of the person above the upper left corner of the box."""
    x1, y1, *_ = face.box_xyxy.tolist()
    height = _label_height(face, factor)
    colour = UNSURE_COLOUR if _is_unsure(face) else BOX_COLOUR
    _draw_label(canvas, f"#{face.track_id}", (x1, max(y1 - 0.6 * height, 1.4 * height)), height, colour)


def _label_height(face: FaceMesh, factor: int) -> float:
    return max(0.09 * face_size(face), LABEL_PX * factor)


def _draw_label(
    canvas: NDArray[np.uint8], text: str, place_xy: tuple[float, float], height: float, colour: tuple[int, int, int]
) -> None:
    """Draw a text, ``height`` px high, with its lower left corner at ``place_xy``, on a black border."""
    scale = height / cv2.getTextSize("0", cv2.FONT_HERSHEY_SIMPLEX, 1, 1)[0][1]
    place = max(0, round(place_xy[0])), round(place_xy[1])
    width = max(1, round(2 * scale))
    for ink, added in (((0, 0, 0), max(2, width)), (colour, 0)):
        cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, width + added, cv2.LINE_AA)


def _draw_axes(canvas: NDArray[np.uint8], face: FaceMesh) -> None:
    """Draw the head's axes beside the upper right corner of the box, so that they hide nothing."""
    length = 0.16 * face_size(face)
    origin = np.array([face.box_xyxy[2], face.box_xyxy[1]]) + (0.2 * length, -0.2 * length)
    axes = pose_to_rotation(face.pose) * (1, -1, 1)  # columns x right, y up, z out of the face
    for axis in np.argsort(axes[2]):  # the one that points away from the camera first
        end = origin + length * axes[:2, axis]
        first, last = np.rint(np.stack([origin, end]) * 2**SHIFT).astype(int).tolist()
        cv2.line(canvas, first, last, AXIS_COLOURS[axis], max(1, round(face_size(face) / 130)), cv2.LINE_AA, SHIFT)


def _region(canvas: NDArray[np.uint8], face: FaceMesh) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """Return the part of the picture that the drawing of a face may touch: its upper left corner x, y and a view."""
    points = np.vstack([face.vertices[:, :2], face.box_xyxy.reshape(2, 2)])
    margin = 0.25 * face_size(face) + (3 * LABEL_PX if _is_unsure(face) or face.track_id is not None else 2)
    left, top = np.clip(np.floor(points.min(axis=0) - margin), 0, canvas.shape[1::-1]).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0) + margin), 0, canvas.shape[1::-1]).astype(int)
    return (left, top), canvas[top:bottom, left:right]


def _moved(face: FaceMesh, corner: tuple[int, int], factor: int) -> FaceMesh:
    """Return ``face`` in the pixels of a part of the picture that begins at ``corner``, enlarged by ``factor``."""
    shift = (factor - 1) / 2  # integers are pixel centres before and after
    offset = np.array([*corner, 0], np.float32)

    def move(points: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray((points - offset) * factor + np.array([shift, shift, 0], np.float32), np.float32)

    box = move(np.insert(face.box_xyxy.reshape(2, 2), 2, 0, axis=1))[:, :2].ravel()
    return dataclasses.replace(face, vertices=move(face.vertices), landmarks=move(face.landmarks), box_xyxy=box)
