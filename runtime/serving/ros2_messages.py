"""ROS 2 messages from and to arrays, without ROS: sensor_msgs/Image in, fields of hri_msgs out.

Topics and names follow REP 155 (https://ros.org/reps/rep-0155.html), landmarks the order of hri_msgs/FacialLandmarks:
it is that of iBUG 300-W, and the two pupils follow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.types import FaceMesh

TRACKED = "/humans/faces/tracked"
POINTS = 70
EYES = ((68, slice(36, 42)), (69, slice(42, 48)))  # a pupil's number and the landmarks round that eye


class Encoding(NamedTuple):
    """Layout of a picture's bytes."""

    dtype: str
    channels: int
    to_bgr: int | None  # OpenCV's conversion, None: it is BGR already


# Of sensor_msgs/image_encodings.hpp; 16 bits are reduced to their upper byte.
ENCODINGS = {
    "bgr8": Encoding("u1", 3, None),
    "rgb8": Encoding("u1", 3, cv2.COLOR_RGB2BGR),
    "bgra8": Encoding("u1", 4, cv2.COLOR_BGRA2BGR),
    "rgba8": Encoding("u1", 4, cv2.COLOR_RGBA2BGR),
    "mono8": Encoding("u1", 1, cv2.COLOR_GRAY2BGR),
    "8UC1": Encoding("u1", 1, cv2.COLOR_GRAY2BGR),
    "8UC3": Encoding("u1", 3, None),
    "bgr16": Encoding("u2", 3, None),
    "rgb16": Encoding("u2", 3, cv2.COLOR_RGB2BGR),
    "mono16": Encoding("u2", 1, cv2.COLOR_GRAY2BGR),
    "uyvy": Encoding("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422": Encoding("u1", 2, cv2.COLOR_YUV2BGR_UYVY),
    "yuyv": Encoding("u1", 2, cv2.COLOR_YUV2BGR_YUY2),
    "yuv422_yuy2": Encoding("u1", 2, cv2.COLOR_YUV2BGR_YUY2),
    "bayer_rggb8": Encoding("u1", 1, cv2.COLOR_BayerRGGB2BGR),
    "bayer_bggr8": Encoding("u1", 1, cv2.COLOR_BayerBGGR2BGR),
    "bayer_gbrg8": Encoding("u1", 1, cv2.COLOR_BayerGBRG2BGR),
    "bayer_grbg8": Encoding("u1", 1, cv2.COLOR_BayerGRBG2BGR),
}


def picture_of(message: Any) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) uint8 BGR of a sensor_msgs/Image; padded rows and either byte order are understood.

    Raises `FaceMeshError` for an encoding that is none of `ENCODINGS`, for a width that it cannot have, and for too few
    bytes.
    """
    if message.encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise FaceMeshError(f"pictures of encoding {message.encoding!r} are not read; publish one of {known}")
    encoding = ENCODINGS[message.encoding]
    dtype = np.dtype(encoding.dtype).newbyteorder(">" if message.is_bigendian else "<")
    row_bytes = message.width * encoding.channels * dtype.itemsize
    if encoding.channels == 2 and message.width % 2:  # two pixels share their colours
        raise FaceMeshError(f"pictures of {message.encoding} have an even width, not {message.width}; check the camera")
    data = np.frombuffer(message.data, np.uint8)
    if not message.height * message.width or message.step < row_bytes or data.size < message.height * message.step:
        size = f"{message.width} x {message.height} px of {message.encoding}"
        raise FaceMeshError(
            f"a message of {data.size} bytes in rows of {message.step} cannot hold {size}; check the camera"
        )
    rows = data[: message.height * message.step].reshape(message.height, message.step)[:, :row_bytes]
    pixels = np.ascontiguousarray(rows).view(dtype).reshape(message.height, message.width, encoding.channels)
    if dtype.itemsize == 2:
        pixels = (pixels >> 8).astype(np.uint8)
    return pixels if encoding.to_bgr is None else cv2.cvtColor(pixels, encoding.to_bgr)


def seconds(stamp: Any) -> float:
    """Return the seconds of a builtin_interfaces/Time."""
    return stamp.sec + 1e-9 * stamp.nanosec


def face_id(track_id: int) -> str:
    """Return the identifier of a person's face; REP 155 wants no leading digit."""
    return f"f{track_id:05d}"


def topic(identifier: str, name: str) -> str:
    """Return the topic of one face, such as /humans/faces/f00001/landmarks."""
    return f"/humans/faces/{identifier}/{name}"


def landmark_points(face: FaceMesh, height: int, width: int) -> list[dict[str, float]]:
    """Return the 70 points of hri_msgs/FacialLandmarks as fields of NormalizedPointOfInterest2D.

    x and y are 0..1 from the picture's corner to the opposite one, c is the face's confidence (the detector's score for
    a network without one). A point beyond the picture is moved to its border and has c 0, as have the pupils: no
    network here finds them, they are the middles of the lids.
    """
    points = np.zeros((POINTS, 3))
    points[:68, :2] = face.landmarks[:, :2]
    points[:68, 2] = _certainty(face)
    for number, lids in EYES:
        points[number, :2] = face.landmarks[lids, :2].mean(axis=0)
    points[:, :2] = (points[:, :2] + 0.5) / (width, height)
    outside = (points[:, :2] != np.clip(points[:, :2], 0, 1)).any(axis=1)
    points[outside, 2] = 0
    points = np.clip(points, 0, 1)
    return [dict(zip("xyc", row, strict=True)) for row in points.tolist()]


def region(face: FaceMesh, height: int, width: int) -> dict[str, float]:
    """Return the fields of hri_msgs/NormalizedRegionOfInterest2D, header aside: the box of the landmarks."""
    sides = (face.box_xyxy.astype(np.float64) + 0.5) / (width, height, width, height)
    values = [*np.clip(sides, 0, 1).tolist(), _certainty(face)]
    return dict(zip(("xmin", "ymin", "xmax", "ymax", "c"), values, strict=True))


def _certainty(face: FaceMesh) -> float:
    return float(np.clip(face.score if face.confidence is None else face.confidence, 0, 1))
