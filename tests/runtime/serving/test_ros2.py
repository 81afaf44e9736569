"""Messages of ROS 2 and the node, without ROS: the stand-in knows the fields of the messages' definitions."""

from __future__ import annotations

import importlib
import itertools
import json
import sys

import cv2
import numpy as np
import pytest

from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.pipeline import FaceMeshPipeline
from runtime.serving import ros2
from runtime.serving.ros2_messages import ENCODINGS, face_id, landmark_points, picture_of, region, seconds, topic
from runtime.types import FaceMesh, Pose
from tests.standins import fake_ros

PAIRED = ("uyvy", "yuv422", "yuyv", "yuv422_yuy2")  # two pixels share their colours
Header, Image, Time = (fake_ros.MESSAGES[name] for name in ("Header", "Image", "Time"))


def image_message(pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False, time_s: float = 0.0):
    """A sensor_msgs/Image with padded rows."""
    rows = pixels.reshape(len(pixels), -1)
    rows = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">" if big else "<"))).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    return Image(
        header=Header(stamp=Time(sec=int(time_s), nanosec=round(time_s % 1 * 1e9)), frame_id="camera"),
        height=len(pixels),
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=int(big),
        step=data.shape[1],
        data=data.tobytes(),
    )


def face_at(points: np.ndarray, confidence: float | None = 0.75) -> FaceMesh:
    box = np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
    return FaceMesh(np.zeros((0, 3), np.float32), points.astype(np.float32), box, 0.5, Pose(0, 0, 0), confidence)


@pytest.fixture(scope="module")
def photo(portrait):
    return cv2.imread(str(portrait))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "convert"),
    [
        ("bgr8", lambda image: image),
        ("8UC3", lambda image: image),
        ("rgb8", lambda image: image[..., ::-1]),
        ("bgra8", lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)),
        ("rgba8", lambda image: cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)),
        ("bgr16", lambda image: image.astype(np.uint16) * 257),
        ("rgb16", lambda image: image[..., ::-1].astype(np.uint16) * 257),
    ],
)
def test_colours_arrive_as_they_were(photo, encoding, convert, padding):
    image = photo[100:140, 200:263]
    for big in (False, True):
        found = picture_of(image_message(convert(image), encoding, padding, big))
        np.testing.assert_array_equal(found, image)
        assert found.flags.c_contiguous


def test_grey_and_subsampled_colours_arrive_nearly(photo):
    image = cv2.GaussianBlur(photo, (0, 0), 4)[100:140, 200:264]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    for encoding, pixels in (("mono8", grey), ("8UC1", grey), ("mono16", grey.astype(np.uint16) * 257)):
        np.testing.assert_array_equal(picture_of(image_message(pixels, encoding)), cv2.merge([grey] * 3))
    uyvy, yuyv = (cv2.cvtColor(image, code) for code in (cv2.COLOR_BGR2YUV_UYVY, cv2.COLOR_BGR2YUV_YUY2))
    assert np.abs(uyvy[..., 1].astype(int) - grey).mean() < 20  # the brightness is the second byte
    for encoding, packed in (("uyvy", uyvy), ("yuv422", uyvy), ("yuyv", yuyv), ("yuv422_yuy2", yuyv)):
        assert np.abs(picture_of(image_message(packed, encoding)).astype(int) - image).mean() < 4, encoding
    for encoding in ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"):
        raw = np.empty(image.shape[:2], np.uint8)
        for place, colour in enumerate(encoding.removeprefix("bayer_")[:4]):
            row, column = divmod(place, 2)
            raw[row::2, column::2] = image[row::2, column::2, "bgr".index(colour)]
        assert np.abs(picture_of(image_message(raw, encoding)).astype(int) - image).mean() < 4, encoding


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "jpeg"}, "encoding 'jpeg' are not read; publish one of bgr8"),
        ({"step": 10}, "in rows of 10 cannot hold 8 x 4 px of bgr8"),
        ({"data": b"123"}, "a message of 3 bytes"),
        ({"height": 0}, "cannot hold 8 x 0 px"),
    ],
)
def test_messages_that_hold_no_picture_are_refused(changes, reason):
    message = image_message(np.zeros((4, 8, 3), np.uint8), "bgr8")
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(FaceMeshError) as error:
        picture_of(message)
    assert reason in str(error.value)
    assert set(ENCODINGS) >= {"bgr8", "rgb8", "mono8"}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_message_of_any_size_is_a_picture_or_refused(encoding):
    """Sides from 0 to 5 px; rows and data that are longer or shorter than those of the picture."""
    kind = ENCODINGS[encoding]
    for height, width, longer, missing in itertools.product(range(6), range(6), (-1, 0, 1), (-1, 0, 1)):
        row_bytes = width * kind.channels * np.dtype(kind.dtype).itemsize
        step = max(0, row_bytes + longer)
        size = max(0, height * step - missing)
        message = Image(height=height, width=width, encoding=encoding, is_bigendian=0, step=step, data=bytes(size))
        holds = height * width > 0 and step >= row_bytes and size >= height * step
        holds &= encoding not in PAIRED or width % 2 == 0
        try:
            shape = picture_of(message).shape
        except FaceMeshError:
            shape = None
        assert shape == ((height, width, 3) if holds else None), (height, width, step, size)


def test_points_are_shares_of_the_picture_in_the_order_of_the_message():
    """hri_msgs numbers the landmarks as iBUG does; 68 is the right pupil, 69 the left one."""
    points = np.stack([np.arange(68.0), np.arange(68.0) / 2, np.zeros(68)], axis=1)
    found = landmark_points(face_at(points), height=50, width=100)
    assert len(found) == 70
    assert found[30] == pytest.approx({"x": 0.305, "y": 0.31, "c": 0.75})  # hri_msgs: NOSE=30
    assert found[68] == pytest.approx({"x": (38.5 + 0.5) / 100, "y": (38.5 / 2 + 0.5) / 50, "c": 0.0})
    assert found[69]["x"] == pytest.approx((44.5 + 0.5) / 100)
    assert region(face_at(points), 50, 100) == pytest.approx(
        {"xmin": 0.005, "ymin": 0.01, "xmax": 0.675, "ymax": 0.68, "c": 0.75}
    )
    assert landmark_points(face_at(points, None), 50, 100)[0]["c"] == 0.5


def test_points_beyond_the_picture_are_on_its_border_and_unsure():
    points = np.tile([-30.0, 40.0, 0.0], (68, 1))
    points[1] = (500.0, 20.0, 0.0)
    found = landmark_points(face_at(points), height=50, width=100)
    assert (found[0]["x"], found[0]["c"], found[1]["x"], found[1]["c"]) == (0.0, 0.0, 1.0, 0.0)
    sides = region(face_at(points), 50, 100)
    assert (sides["xmin"], sides["xmax"]) == (0.0, 1.0)


def test_names_are_those_of_rep_155():
    assert topic(face_id(7), "landmarks") == "/humans/faces/f00007/landmarks"
    assert seconds(Time(sec=3, nanosec=500_000_000)) == 3.5


@pytest.fixture
def ros(monkeypatch):
    """``ros(spin, **parameters)``: the module of the node over the stand-in."""
    pytest.importorskip("onnxruntime")

    def install(spin=lambda node: None, **parameters):
        for name, module in fake_ros.modules(spin).items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(fake_ros.Node, "parameters", parameters)
        monkeypatch.delitem(sys.modules, "runtime.serving.ros2_node", raising=False)
        return importlib.import_module("runtime.serving.ros2_node")

    yield install
    sys.modules.pop("runtime.serving.ros2_node", None)


def test_the_node_publishes_tracked_faces_and_ends_their_topics(ros, photo):
    node = ros(max_faces=2).FaceMeshNode()
    (kind, callback) = node.subscriptions_of["image"]
    assert kind is Image
    for number in range(3):
        callback(image_message(photo, "bgr8", time_s=number / 30))
    landmarks = node.published["/humans/faces/f00001/landmarks"]
    assert len(landmarks) == len(node.published["/humans/faces/f00001/roi"]) == 3
    assert [message.ids for message in node.published["/humans/faces/tracked"]] == [["f00001"]] * 3
    assert (landmarks[0].height, landmarks[0].width) == photo.shape[:2]
    assert landmarks[2].header.stamp.nanosec == pytest.approx(2e9 / 30, abs=1)
    with open_runner() as runner:
        (face,) = FaceMeshPipeline(runner, YuNetDetector(max_faces=1))(photo)
    found = np.array([(point.x, point.y) for point in landmarks[0].landmarks[:68]]) * photo.shape[1::-1] - 0.5
    assert np.abs(found - face.landmarks[:, :2]).max() < 0.02 * np.ptp(face.box_xyxy[::2])
    assert len(landmarks[0].landmarks) == 70
    nothing = np.full_like(photo, 90)
    for number in range(3, 60):
        callback(image_message(nothing, "bgr8", time_s=number / 30))
    assert node.published["/humans/faces/tracked"][-1].ids == []
    assert node.open == {"/humans/faces/tracked"}
    node.destroy_node()
    assert node.destroyed


def test_a_message_that_is_no_picture_is_told_and_the_next_one_is_done(ros, photo):
    node = ros().FaceMeshNode()
    node.on_image(image_message(photo, "jpeg"))
    node.on_image(image_message(np.zeros((4, 5, 2), np.uint8), "uyvy"))
    assert "encoding 'jpeg' are not read" in node.errors[0]
    assert "uyvy have an even width, not 5" in node.errors[1]
    node.on_image(image_message(photo, "bgr8"))
    assert len(node.published["/humans/faces/tracked"]) == 1
    node.destroy_node()


def test_the_command_ends_with_ros_and_frees_the_node(ros, capsys, tmp_path):
    nodes = []

    def stop(node):
        nodes.append(node)
        raise fake_ros.ExternalShutdownException

    ros(stop)
    assert ros2.main([]) == 0
    assert nodes[0].destroyed
    assert not sys.modules["rclpy"].state.running
    ros(stop, model="/none.onnx")
    assert ros2.main([]) == 1
    assert "no model file there" in capsys.readouterr().err
    random = tmp_path / "random.onnx"
    random.write_bytes(SHIPPED_MODEL.read_bytes())
    spec = json.loads(SHIPPED_MODEL.with_name("edge.onnx.json").read_text())
    random.with_name("random.onnx.json").write_text(json.dumps({**spec, "untrained": True}))
    ros(stop, model=str(random))
    assert ros2.main([]) == 1
    assert "its weights are random" in capsys.readouterr().err
    assert not sys.modules["rclpy"].state.running


def test_without_ros_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.delitem(sys.modules, "runtime.serving.ros2_node", raising=False)
    assert ros2.main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "ros-$ROS_DISTRO-" in lines[0]
