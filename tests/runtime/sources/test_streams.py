"""Streams of the network: a camera that sends JPEGs over HTTP, films on a web server."""

from __future__ import annotations

import functools
import socket
import subprocess
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources import live
from runtime.sources.frame_source import FrameSource
from runtime.sources.video import ReadOptions

pytest.importorskip("av", reason="needs PyAV: pip install 'facemesh-edge[video]'")

from tests.standins.films import number_of, numbered, write_film
from tests.standins.mjpeg_server import serving


def picture(number):
    return numbered(number % 256)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.05)


def test_camera_over_http():
    with serving(picture, 0.02) as server, FrameSource(server.url) as source:
        assert source.is_live
        frames = [frame for _, frame in zip(range(12), source, strict=False)]
    numbers = [number_of(frame.image) for frame in frames]
    assert numbers == [*range(numbers[0], numbers[0] + 12)]
    assert [frame.index for frame in frames] == [*range(12)]


def test_camera_that_lies_about_its_rate():
    """JPEGs over HTTP carry no times: FFmpeg makes them up at 25 a second."""
    with serving(picture, 0.1) as server, FrameSource(server.url) as source:
        times = [frame.timestamp_s for _, frame in zip(range(9), source, strict=False)]
    assert 0.07 < np.median(np.diff(times)[3:]) < 1


def test_live_takes_the_newest():
    options = ReadOptions(live=True)
    with serving(picture, 0.01) as server, FrameSource(server.url, options=options) as source:
        numbers = []
        for frame in source:
            numbers.append(number_of(frame.image))
            time.sleep(0.1)
            if len(numbers) == 6:
                break
        assert source.dropped > 6
    assert np.diff(numbers).max() > 3


def test_camera_that_goes_and_comes_back():
    notes = []
    with serving(picture, 0.02) as server, FrameSource(server.url, on_note=notes.append) as source:
        frames = iter(source)
        before = next(frames)
        server.stop()
        threading.Timer(0.1, server.start).start()
        while len(notes) < 2:
            after = next(frames)
        after = next(frames)
    assert after.timestamp_s > before.timestamp_s
    assert "lost after" in notes[0]
    assert "back after" in notes[1]


def test_size_that_changes_in_the_stream():
    def changing(number):
        return numbered(number % 256, *((160, 96) if number < 10 else (224, 128)))

    with serving(changing, 0.01) as server, FrameSource(server.url) as source:
        sizes = [frame.image.shape[:2] for _, frame in zip(range(25), source, strict=False)]
    assert {*sizes} == {(96, 160), (128, 224)}
    assert sizes == sorted(sizes)


@pytest.fixture
def site(tmp_path):
    """A web server with the files of a folder."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_film_on_a_web_server_is_a_film(tmp_path, site):
    write_film(tmp_path / "a.mp4", map(numbered, range(20)))
    with FrameSource(f"{site}/a.mp4", options=ReadOptions(live=True)) as source:
        assert not source.is_live
        assert [number_of(frame.image) for frame in source] == [*range(20)]


def test_nothing_there(site):
    with pytest.raises(FaceMeshError, match=r"/missing\.mp4: nothing could be read there .*404.*; check the address"):
        FrameSource(f"{site}/missing.mp4")


@pytest.fixture
def silent_server(monkeypatch):
    """``silent_server(data)`` answers every connection with ``data`` and then says no more; returns the address."""
    from runtime.sources import pyav_film

    monkeypatch.setattr(pyav_film, "OPEN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(pyav_film, "READ_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def serve(data):
            def accept():
                while True:
                    try:
                        connections.append(server.accept()[0])
                    except OSError:  # closed
                        return
                    connections[-1].sendall(data)

            threading.Thread(target=accept, daemon=True).start()
            return f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"

        yield serve
        server.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()


def test_web_server_that_does_not_answer(silent_server):
    start = time.monotonic()
    with pytest.raises(FaceMeshError, match=r"nothing could be read there \(no answer within 0\.5 s\); check"):
        FrameSource(silent_server(b""))
    assert time.monotonic() - start < 40  # the server itself would wait for ever


def test_web_server_that_stops_in_the_middle_of_a_film(tmp_path, silent_server):
    generator = np.random.default_rng(0)
    pictures = [numbered(number, 320, 192) for number in range(60)]
    for picture in pictures:
        picture[96:] = generator.integers(0, 256, (96, 320, 3))
    film = write_film(tmp_path / "a.mp4", pictures, container={"movflags": "faststart"}).read_bytes()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % len(film)
    seen, start = [], time.monotonic()
    with pytest.raises(FaceMeshError, match=r"\(nothing has come for 0\.5 s\); check the address"):  # noqa: SIM117
        with FrameSource(silent_server(head + film[: len(film) * 2 // 3])) as source:
            seen.extend(number_of(frame.image) for frame in source)
    assert seen == [*range(len(seen))]
    assert len(seen) > 30
    assert time.monotonic() - start < 40  # the server itself would wait for ever


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for scheme in ("http", "rtsp"):
        with pytest.raises(FaceMeshError, match=rf"^{scheme}://127\.0\.0\.1:{port}/x: .*refused") as raised:
            FrameSource(f"{scheme}://me:secret@127.0.0.1:{port}/x")
        assert "secret" not in str(raised.value)


def test_streams_need_pyav(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "runtime.sources.pyav_film")
    for scheme in ("http", "rtsp"):
        with pytest.raises(FaceMeshError, match=r"streams need PyAV.*facemesh-edge\[video\]"):
            FrameSource(f"{scheme}://127.0.0.1/x")


DEBIAN_PYTHON = "/usr/bin/python3"
NEEDS = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer;"
    "Gst.init(None);"
    "assert all(map(Gst.ElementFactory.find, ['videotestsrc', 'jpegenc', 'rtpjpegpay']))"
)


@pytest.fixture
def rtsp_server(repository):
    """``rtsp_server()`` starts GStreamer's server, always on one port, and returns the process; attribute ``url``."""
    check = [DEBIAN_PYTHON, "-c", NEEDS]
    if not Path(DEBIAN_PYTHON).exists() or subprocess.run(check, capture_output=True).returncode:
        packages = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good python3-gi"
        pytest.skip(f"needs GStreamer's RTSP server: apt-get install {packages}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start():
        command = [DEBIAN_PYTHON, str(repository / "tests" / "programs" / "rtsp_server.py"), str(port)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    start.url = f"rtsp://127.0.0.1:{port}/test"
    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_rtsp_server_that_is_killed_and_started_again(rtsp_server):
    notes = []
    process = rtsp_server()
    with FrameSource(rtsp_server.url, on_note=notes.append) as source:
        frames = iter(source)
        before = [next(frames) for _ in range(5)]
        process.kill()
        process.wait()
        threading.Timer(0.1, rtsp_server).start()
        while len(notes) < 2:
            next(frames)
        after = [next(frames) for _ in range(5)]
    assert {frame.image.shape for frame in before + after} == {(240, 320, 3)}
    assert after[0].timestamp_s > before[-1].timestamp_s
    assert "lost after" in notes[0]
    assert "back after" in notes[1]
