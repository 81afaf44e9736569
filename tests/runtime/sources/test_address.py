"""Addresses of sources, and those that are none."""

from __future__ import annotations

import os
import socket

import pytest

from runtime.errors import FaceMeshError
from runtime.sources.address import WrongAddressError, parse_address
from runtime.sources.frame_source import FrameSource
from runtime.sources.photos import list_photos
from runtime.sources.video import ReadOptions


@pytest.mark.parametrize(
    ("text", "kind", "value", "shown"),
    [
        ("camera:0", "camera", "0", "camera:0"),
        ("/dev/video97", "camera", "97", "/dev/video97"),
        ("csi:1", "csi", "1", "csi:1"),
        ("gst:v4l2src ! videoconvert", "gst", "v4l2src ! videoconvert", "gst:v4l2src ! videoconvert"),
        ("rtsp://10.0.0.2:554/live", "stream", "rtsp://10.0.0.2:554/live", "rtsp://10.0.0.2:554/live"),
        ("RTSP://me:p@ss@cam/1?a=b@c", "stream", "RTSP://me:p@ss@cam/1?a=b@c", "RTSP://cam/1?a=b@c"),
        ("https://h/film.mp4", "stream", "https://h/film.mp4", "https://h/film.mp4"),
    ],
)
def test_addresses(text, kind, value, shown):
    address = parse_address(text)
    assert (address.kind, address.value, address.shown) == (kind, value, shown)
    assert address.is_device


def test_files(tmp_path):
    for name in ("a.jpg", "a.MP4", "b"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    kinds = {name: parse_address(str(tmp_path / name)).kind for name in ("", "a.jpg", "a.MP4", "b", "folder.mp4")}
    assert kinds == {"": "photos", "a.jpg": "photos", "a.MP4": "film", "b": "photos", "folder.mp4": "photos"}
    address = parse_address(f"file://{tmp_path}/a.MP4")
    assert (address.kind, address.value) == ("film", f"{tmp_path}/a.MP4")


def test_camera_by_a_lasting_name(tmp_path):
    (tmp_path / "usb-camera").symlink_to("/dev/video96")
    assert parse_address(str(tmp_path / "usb-camera")).value == "96"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("camera:", "named by its number"),
        ("camera:front", "named by its number"),
        ("camera:-1", "named by its number"),
        ("csi:x", "named by its number, such as csi:0"),
        ("gst: ", "give GStreamer's pipeline"),
        ("ftp://h/film.mp4", r"unknown scheme ftp://; give a photo, a folder, a film, camera:0"),
        ("s3://user:secret@bucket/film.mp4", r"^s3://bucket/film\.mp4: unknown scheme"),
        ("rtsp://", "names no host"),
        ("http:///film.mp4", "names no host"),
        ("rtsp://[::1/live", "names no host"),
        ("webcam:0", "neither a file nor a known kind of source"),
    ],
)
def test_addresses_that_can_never_be_one(text, message):
    with pytest.raises(WrongAddressError, match=message):
        parse_address(text)


@pytest.mark.parametrize("name", ["pipe", "pipe.mp4", "pipe.jpg", "socket.mp4"])
def test_what_would_be_waited_for_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name.startswith("pipe"):
        os.mkfifo(name)
        kind = "a pipe"
    else:
        socket.socket(socket.AF_UNIX).bind(name)
        kind = "a socket"
    with pytest.raises(FaceMeshError, match=rf"{name}: {kind}, no file; save it to a file first"):
        FrameSource(name)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/stdin"])
def test_devices_that_are_no_cameras(name):
    with pytest.raises(FaceMeshError, match=f"{name}: "):
        FrameSource(name)


def test_pipe_among_photos(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    errors = []
    with FrameSource(tmp_path, errors.append) as source:
        assert list(source) == []
    assert "a.jpg: cannot be read" in str(errors[0])


@pytest.mark.parametrize("uri", ["csi:0", "gst:videotestsrc"])
def test_opencv_without_gstreamer_is_named(uri, monkeypatch):
    import cv2

    monkeypatch.setattr(cv2.videoio_registry, "getBackends", lambda: [cv2.CAP_FFMPEG])
    with pytest.raises(FaceMeshError, match=rf"{uri}: this OpenCV .* is built without GStreamer.*JetPack"):
        FrameSource(uri)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("csi:1", ["nvarguscamerasrc sensor-id=1 ! ", "drop=true max-buffers=1 sync=false"]),
        (
            "gst:videotestsrc",
            ["videotestsrc ! videoconvert ! ", "format=BGR ! appsink drop=true max-buffers=1 sync=false"],
        ),
        ("gst:videotestsrc ! appsink name=x", ["videotestsrc ! appsink name=x"]),
    ],
)
def test_gstreamer_pipelines_keep_one_frame(uri, parts):
    from runtime.sources.cameras import gstreamer_pipeline

    pipeline = gstreamer_pipeline(parse_address(uri))
    assert pipeline.startswith(parts[0])
    assert pipeline.endswith(parts[-1])


def test_subfolders(tmp_path):
    for name in ("b.jpg", "x/c.png", "x/y/d.JPG", "a/e.jpg", "x/notes.txt", ".hidden/f.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    found = [str(path.relative_to(tmp_path)) for path in list_photos(tmp_path, recursive=True)]
    assert found == ["b.jpg", "a/e.jpg", "x/c.png", "x/y/d.JPG"]
    with FrameSource(tmp_path, options=ReadOptions(recursive=True)) as source:
        assert [path.name for path in source.other_files] == ["notes.txt"]
    (tmp_path / "b.jpg").unlink()
    with pytest.raises(FaceMeshError, match=r"no photos in this folder \(--recursive searches subfolders"):
        list_photos(tmp_path)
