"""VMC protocol over OSC 1.0: head rotation and blendshapes of one face for avatars, as UDP packets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime.errors import FaceMeshError, reason
from runtime.expressions.expression import read_expression
from runtime.geometry.pose import pose_to_rotation, rotation_to_quaternion
from runtime.rendering.maps import face_size
from runtime.types import FaceMesh, Frame, Pose

IMMEDIATELY = 1  # OSC time tag
# Axes of Unity: x to the right of an avatar that looks along z, y up. The frame's x is the person's left, its y down.
TO_UNITY = np.diag([-1.0, -1.0, 1.0])


class VmcSink:
    """Sender of one bundle per frame: ``/VMC/Ext/OK``, ``T``, ``Bone/Pos`` of the head, ``Blend/Val``, ``Blend/Apply``.

    It follows one person as long as they are tracked, then the largest face. A frame without face says ``OK 0``.
    Packets that nobody takes are lost, as UDP has it.
    """

    def __init__(self, host: str, port: int) -> None:
        """Open a socket for ``host`` and ``port``; raises `FaceMeshError` for a host that is not known."""
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._address: tuple[Any, ...] = address
            self._socket = socket.socket(family, kind, protocol)
        except OSError as error:
            remedy = "give a host and port that can be reached"
            raise FaceMeshError(f"--osc {host}:{port}: {reason(error)}; {remedy}") from error
        self._socket.setblocking(False)
        self._followed: int | None = None

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Send the bundle of one frame."""
        face = self._choose(faces)
        messages = [osc_message("/VMC/Ext/OK", int(face is not None)), osc_message("/VMC/Ext/T", frame.timestamp_s)]
        if face is not None:
            rotation = unity_quaternion(face.pose)
            messages.append(osc_message("/VMC/Ext/Bone/Pos", "Head", 0.0, 0.0, 0.0, *rotation))
            for name, value in read_expression(face, frame.image).blendshapes.items():
                messages.append(osc_message("/VMC/Ext/Blend/Val", name[0].upper() + name[1:], value))
            messages.append(osc_message("/VMC/Ext/Blend/Apply"))
        with contextlib.suppress(OSError):  # nobody listens, or the network is full
            self._socket.sendto(osc_bundle(messages), self._address)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _choose(self, faces: Sequence[FaceMesh]) -> FaceMesh | None:
        if not faces:
            return None
        followed = [face for face in faces if face.track_id is not None and face.track_id == self._followed]
        face = followed[0] if followed else max(faces, key=face_size)
        self._followed = face.track_id
        return face


def unity_quaternion(pose: Pose) -> tuple[float, ...]:
    """Return x, y, z, w of a head's rotation in Unity's axes."""
    return tuple(rotation_to_quaternion(TO_UNITY @ pose_to_rotation(pose) @ TO_UNITY).tolist())


def osc_message(address: str, *values: int | float | str) -> bytes:
    """Encode one OSC 1.0 message with int32, float32 and ASCII string arguments."""
    tags = {int: "i", float: "f", str: "s"}
    data = _padded(address) + _padded("," + "".join(tags[type(value)] for value in values))
    for value in values:
        data += _padded(value) if isinstance(value, str) else struct.pack(">" + tags[type(value)], value)
    return data


def osc_bundle(messages: Sequence[bytes]) -> bytes:
    """Encode messages as one OSC 1.0 bundle that is due at once."""
    parts = [struct.pack(">i", len(message)) + message for message in messages]
    return _padded("#bundle") + struct.pack(">Q", IMMEDIATELY) + b"".join(parts)


def _padded(text: str) -> bytes:
    """Return a string with one to four zeros, so that its length is a multiple of four."""
    data = text.encode("ascii")
    return data + bytes(4 - len(data) % 4)
