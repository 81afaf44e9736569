"""Packets of the VMC protocol, received on a loopback socket and read by the OSC 1.0 specification."""

from __future__ import annotations

import dataclasses
import socket
import struct

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.expressions.expression import BLENDSHAPES, read_expression
from runtime.geometry.pose import pose_to_rotation
from runtime.outputs.vmc import VmcSink, osc_bundle, osc_message, unity_quaternion
from runtime.types import Frame, Pose
from tests.standins.meshes import face_of

FRONT = Pose(0, 0, 0)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(10)
        yield opened


def face_at(topology, pose=FRONT, scale=0.6, track_id=None):
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = (scale * centred @ pose_to_rotation(pose).T + (160, 120, 50)).astype(np.float32)
    face = dataclasses.replace(face_of(vertices), pose=pose, track_id=track_id)
    return dataclasses.replace(face, landmarks=vertices[topology.landmark_vertices])


def padded_string(data, place):
    end = data.index(b"\0", place)
    return data[place:end].decode("ascii"), end + 4 - end % 4


def read_message(data):
    """Address and arguments; everything is aligned to four bytes."""
    address, place = padded_string(data, 0)
    tags, place = padded_string(data, place)
    assert tags.startswith(",")
    values = []
    for tag in tags[1:]:
        if tag == "s":
            value, place = padded_string(data, place)
        else:
            (value,), place = struct.unpack_from(">" + tag, data, place), place + 4
        values.append(value)
    assert place == len(data)
    return address, *values


def read_bundle(data):
    assert data[:16] == b"#bundle\0" + bytes(7) + b"\1"
    messages, place = [], 16
    while place < len(data):
        (length,) = struct.unpack_from(">i", data, place)
        assert length % 4 == 0
        messages.append(read_message(data[place + 4 : place + 4 + length]))
        place += 4 + length
    return messages


def test_the_example_of_the_specification():
    """OSC 1.0, "OSC Message Examples"."""
    expected = bytes.fromhex("2f6f7363696c6c61746f722f342f6672657175656e637900 2c660000 43dc0000".replace(" ", ""))
    assert osc_message("/oscillator/4/frequency", 440.0) == expected
    assert osc_message("/foo", 1000, -1, "hello", 1.234, 5.678) == bytes.fromhex(
        "2f666f6f00000000 2c69697366660000 000003e8 ffffffff 68656c6c6f000000 3f9df3b6 40b5b22d".replace(" ", "")
    )
    assert osc_bundle([]) == b"#bundle\0" + bytes(7) + b"\1"


def test_a_frame_is_one_bundle(topology, image, receiver):
    sink, face = VmcSink(*receiver.getsockname()), face_at(topology, Pose(20, 10, -5))
    sink.write(Frame(image, 3, 0.12, "camera:0"), [face])
    sink.close()
    data = receiver.recv(65536)
    assert len(data) < 1400  # one packet of a network
    messages = read_bundle(data)
    assert messages[0] == ("/VMC/Ext/OK", 1)
    assert messages[1] == ("/VMC/Ext/T", pytest.approx(0.12))
    assert messages[2][:5] == ("/VMC/Ext/Bone/Pos", "Head", 0, 0, 0)
    assert messages[2][5:] == pytest.approx(unity_quaternion(face.pose))
    values = messages[3:-1]
    assert {address for address, *_ in values} == {"/VMC/Ext/Blend/Val"}
    expected = read_expression(face, image).blendshapes
    assert {name: value for _, name, value in values} == {
        name[0].upper() + name[1:]: pytest.approx(value, abs=1e-6) for name, value in expected.items()
    }
    assert len(values) == len(BLENDSHAPES)
    assert messages[-1] == ("/VMC/Ext/Blend/Apply",)


def test_no_face_is_told(topology, image, receiver):
    sink = VmcSink(*receiver.getsockname())
    sink.write(Frame(image, 0, 1.0, "camera:0"), [])
    assert read_bundle(receiver.recv(65536)) == [("/VMC/Ext/OK", 0), ("/VMC/Ext/T", 1.0)]
    sink.close()


@pytest.mark.parametrize(
    ("pose", "axis", "towards"),
    [
        (Pose(30, 0, 0), (0, 0, 1), (-0.5, 0, 0.866)),  # the nose goes to the picture's right: the person's left, -x
        (Pose(0, 30, 0), (0, 0, 1), (0, 0.5, 0.866)),  # up
        (Pose(0, 0, 30), (0, 1, 0), (-0.5, 0.866, 0)),  # clockwise in the picture: the top goes to the person's left
    ],
)
def test_the_head_turns_as_the_person(pose, axis, towards):
    x, y, z, w = unity_quaternion(pose)
    vector, point = np.array([x, y, z]), np.array(axis, float)
    turned = point + 2 * np.cross(vector, np.cross(vector, point) + w * point)
    np.testing.assert_allclose(turned, towards, atol=1e-3)


def test_one_person_is_followed(topology, image, receiver):
    """The largest face at first; then the same person, even if another comes nearer; then the largest again."""
    poses = {}
    sink = VmcSink(*receiver.getsockname())

    def followed(*faces):
        sink.write(Frame(image, 0, 0.0, "camera:0"), faces)
        rotation = read_bundle(receiver.recv(65536))[2][5:]
        return next(key for key, value in poses.items() if np.allclose(rotation, unity_quaternion(value), atol=1e-5))

    poses.update({1: Pose(10, 0, 0), 2: Pose(-20, 0, 0)})
    large, small = face_at(topology, poses[1], 0.6, 1), face_at(topology, poses[2], 0.3, 2)
    nearer = face_at(topology, poses[2], 0.9, 2)
    assert [followed(small, large), followed(nearer, large), followed(nearer), followed(nearer, large)] == [1, 1, 2, 2]
    sink.close()


def test_nobody_listens(topology, image):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    sink = VmcSink(*address)
    for index in range(5):
        sink.write(Frame(image, index, index / 10, "camera:0"), [face_at(topology)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.bind(address)
        late.settimeout(10)
        sink.write(Frame(image, 5, 0.5, "camera:0"), [])
        assert read_bundle(late.recv(65536)) == [("/VMC/Ext/OK", 0), ("/VMC/Ext/T", 0.5)]
    sink.close()


def test_a_host_that_is_not_known():
    with pytest.raises(FaceMeshError, match=r"--osc host\.invalid:39539: .*; give a host and port that can be reached"):
        VmcSink("host.invalid", 39539)
