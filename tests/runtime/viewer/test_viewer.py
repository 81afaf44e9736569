"""The viewer: what it serves, to whom, and that nobody who looks on holds up the run."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
import time

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.rendering.colours import vertex_colours
from runtime.types import Frame, Pose
from runtime.viewer import newest as newest_module
from runtime.viewer.newest import Newest
from runtime.viewer.server import ViewerServer
from runtime.viewer.stage_clock import StageClock
from tests.runtime.viewer.chromium import Chromium
from tests.standins.meshes import face_of


@pytest.fixture(scope="module")
def image():
    x, y = np.meshgrid(np.linspace(0, 255, 320), np.linspace(0, 255, 240))
    return np.dstack([np.full_like(x, 40), y, x]).round().astype(np.uint8)


@pytest.fixture(scope="module")
def face(topology):
    centred = topology.canonical_vertices - topology.canonical_vertices.mean(axis=0)
    vertices = (0.7 * centred + (160, 120, 0)).astype(np.float32)
    flat = face_of(vertices)
    return type(flat)(
        vertices, vertices[topology.landmark_vertices], flat.box_xyxy, 0.9, Pose(5, -3, 2), confidence=0.8, track_id=7
    )


@pytest.fixture
def newest(topology):
    return Newest(topology)


@pytest.fixture
def server(newest):
    opened = ViewerServer(newest, "127.0.0.1", 0)
    yield opened
    opened.close()


def port_of(server) -> int:
    return int(re.search(r":(\d+)/", server.url)[1])


def get(server, path, host=None, address="127.0.0.1"):
    connection = http.client.HTTPConnection(address, port_of(server), timeout=30)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheaders(), body


def test_the_page_loads_nothing_from_other_hosts(server):
    status, headers, body = get(server, "/")
    assert status == 200
    assert ("Content-Security-Policy", "default-src 'self' 'unsafe-inline'") in headers
    assert b"<canvas" in body
    assert not re.search(rb"(https?:)?//[a-z0-9]", body.replace(b"http://www.w3.org", b""))


def test_state(server, newest, image, face):
    assert get(server, "/state")[2] == b"{}"
    clock = StageClock()
    with clock.stage("read"):
        time.sleep(0.02)
    clock.frame_done()
    newest.show(Frame(image, 12, 0.0, "clip.mp4"), [face], clock)
    state = json.loads(get(server, "/state")[2])
    assert (state["source"], state["frame"], state["size_wh"]) == ("clip.mp4", 12, [320, 240])
    assert state["stages_ms"]["read"] >= 19
    assert state["faces"] == [
        {"track_id": 7, "score": 0.9, "confidence": 0.8, "yaw_deg": 5, "pitch_deg": -3, "roll_deg": 2}
    ]


def test_mesh_and_topology(server, newest, topology, image, face):
    newest.show(Frame(image, 0, 0.0, "a.jpg"), [face], StageClock())
    status, _, body = get(server, "/mesh?after=0")
    assert status == 200
    number, count, *centre, unit = struct.unpack("<II4f", body[:24])
    assert (number, count) == (1, len(face.vertices))
    positions = np.frombuffer(body, "<i2", 3 * count, 24).reshape(-1, 3)
    np.testing.assert_allclose(positions * unit + centre, face.vertices, atol=unit)
    colours = np.frombuffer(body, np.uint8, 3 * count, 24 + 6 * count).reshape(-1, 3)
    np.testing.assert_allclose(colours, vertex_colours(image, face.vertices), atol=0.51)
    assert len(body) == 24 + 9 * count
    found = np.frombuffer(get(server, "/topology")[2], "<u4").reshape(-1, 3)
    np.testing.assert_array_equal(found, topology.triangles)


def test_a_frame_without_face_has_a_header_alone(server, newest, image):
    newest.show(Frame(image, 0, 0.0, "a.jpg"), [], StageClock())
    body = get(server, "/mesh")[2]
    assert struct.unpack("<II4f", body)[:2] == (1, 0)


def test_no_newer_mesh_is_no_content(server, newest, image, face, monkeypatch):
    monkeypatch.setattr("runtime.viewer.server.WAIT_S", 0.05)
    newest.show(Frame(image, 0, 0.0, "a.jpg"), [face], StageClock())
    assert get(server, "/mesh?after=1")[0] == 204
    assert get(server, "/mesh?after=nonsense")[0] == 200


def read_pictures(stream, count):
    """The JPEGs of an MJPEG stream."""
    for _ in range(count):
        assert stream.readline() == b"--frame\r\n"
        head = {}
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.decode().partition(": ")
            head[name] = value.strip()
        assert head["Content-Type"] == "image/jpeg"
        data = stream.read(int(head["Content-Length"]))
        assert stream.readline() == b"\r\n"
        yield cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_stream_has_annotated_pictures(server, newest, image, face):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=30)
    newest.show(Frame(image, 0, 0.0, "a.jpg"), [face], StageClock())
    connection.request("GET", "/stream")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
    (first,) = read_pictures(answer, 1)
    newest.show(Frame(255 - image, 1, 0.0, "a.jpg"), [], StageClock())
    (second,) = read_pictures(answer, 1)
    assert first.shape == second.shape == image.shape
    assert np.abs(first.astype(int) - image)[100:140, 140:180].mean() > 20  # the mesh is drawn
    assert np.abs(second.astype(int) - (255 - image)).mean() < 6
    connection.close()


def test_large_pictures_are_streamed_smaller(newest):
    newest.show(Frame(np.zeros((1000, 4000, 3), np.uint8), 0, 0.0, "a.jpg"), [], StageClock())
    _, picture = newest.picture_after(0, 1)
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape == (320, 1280, 3)


def test_slow_clients_hold_up_nobody(server, newest, face):
    """A client that reads nothing: frames go on, and its thread waits for it alone."""
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3)).astype(np.uint8)
    slow = []
    for _ in range(3):
        client = socket.create_connection(("127.0.0.1", port_of(server)))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{port_of(server)}\r\n\r\n".encode())
        slow.append(client)
    longest = 0.0
    for number in range(60):
        start = time.thread_time()
        newest.show(Frame(noise, number, 0.0, "a.avi"), [], StageClock())
        longest = max(longest, time.thread_time() - start)
        time.sleep(0.01)
    assert longest < 0.5  # of this thread: a copy of the picture, no drawing, no encoding, no sending
    start = time.monotonic()
    assert get(server, "/state")[0] == 200
    assert time.monotonic() - start < 20
    for client in slow:
        client.close()


def test_frames_are_not_kept_when_nobody_looks_on(newest, image, monkeypatch):
    newest.show(Frame(image, 0, 0.0, "a.avi"), [], StageClock())
    monkeypatch.setattr(newest_module, "IDLE_S", -1.0)
    newest.show(Frame(image, 1, 0.0, "a.avi"), [], StageClock())
    assert json.loads(newest.state())["frame"] == 0
    monkeypatch.undo()
    newest.show(Frame(image, 2, 0.0, "a.avi"), [], StageClock())
    assert json.loads(newest.state())["frame"] == 2


def test_the_picture_is_a_copy(newest, image, face):
    """The source reuses its buffers."""
    buffer = image.copy()
    newest.show(Frame(buffer, 0, 0.0, "a.avi"), [], StageClock())
    buffer[:] = 0
    _, picture = newest.picture_after(0, 1)
    assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).mean() > 50


@pytest.mark.parametrize(("path", "status"), [("/../etc/passwd", 404), ("/nothing", 404), ("/page.html", 404)])
def test_nothing_else_is_served(server, path, status):
    assert get(server, path)[0] == status


def test_pages_of_other_hosts_cannot_read_it(server):
    """A name of another host that leads to 127.0.0.1 (DNS rebinding)."""
    for host in ("evil.example", "evil.example:80", ""):
        assert get(server, "/state", host)[0] == 403
    for host in ("localhost:9000", "127.0.0.1", "[::1]:80"):  # through a tunnel the port is another
        assert get(server, "/state", host)[0] == 200


def test_other_addresses_want_a_token(newest):
    server = ViewerServer(newest, "0.0.0.0", 0)
    try:
        token = re.search(r"token=(\S{20,})", server.url)[1]
        for query in ("", "?token=", "?token=wrong", f"?token={token}x", "?token=%ff"):
            assert get(server, f"/{query}", "192.168.1.2")[0] == 403
            assert get(server, f"/state{query}")[0] == 403
        assert get(server, f"/state?token={token}", "192.168.1.2")[0] == 200
        assert get(server, f"/?token={token}")[0] == 200
    finally:
        server.close()


def test_a_token_of_ones_own(newest):
    server = ViewerServer(newest, "127.0.0.1", 0, "secret")
    try:
        assert server.url.endswith("/?token=secret")
        assert get(server, "/state")[0] == 403
        assert get(server, "/state?token=secret")[0] == 200
    finally:
        server.close()


def test_a_token_with_signs_of_its_own_in_addresses(newest):
    server = ViewerServer(newest, "127.0.0.1", 0, "a&b=c d+#é")
    try:
        path = server.url.split("/", 3)[3]
        assert get(server, f"/{path}")[0] == 200
    finally:
        server.close()


def test_an_ipv6_address(newest):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = ViewerServer(newest, "::1", 0)
    try:
        assert server.url.startswith("http://[::1]:")
        assert get(server, "/state", address="::1")[0] == 200
    finally:
        server.close()


def test_too_many_clients(server, newest, image, monkeypatch):
    monkeypatch.setattr("runtime.viewer.server.WAIT_S", 20)
    held = [threading.Thread(target=get, args=(server, "/mesh?after=99")) for _ in range(16)]
    for thread in held:
        thread.start()
    end = time.monotonic() + 20
    while get(server, "/state")[0] != 503:
        assert time.monotonic() < end
    newest.close()
    for thread in held:
        thread.join()


def test_a_port_that_is_taken(newest, server):
    with pytest.raises(FaceMeshError, match=r"--serve 127\.0\.0\.1:\d+: cannot listen there \(Address"):
        ViewerServer(newest, "127.0.0.1", port_of(server))
    with pytest.raises(FaceMeshError, match=r"cannot listen there .*; choose another port"):
        ViewerServer(newest, "host.invalid", 0)


def test_closing_ends_streams(newest, image):
    server = ViewerServer(newest, "127.0.0.1", 0)
    newest.show(Frame(image, 0, 0.0, "a.avi"), [], StageClock())
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=30)
    connection.request("GET", "/stream")
    stream = connection.getresponse()
    list(read_pictures(stream, 1))
    server.close()
    assert stream.read() == b""
    with pytest.raises(OSError, match="refused"):
        get(server, "/")


def test_the_clock_counts_the_innermost_stage():
    clock = StageClock()

    def frames():
        for number in range(3):
            with clock.stage("read"):
                time.sleep(0.02)
            yield number

    detect = clock.timed_calls("detect", lambda number: time.sleep(0.03) or number)
    assert [detect(number) for number in clock.timed("mesh", frames())] == [0, 1, 2]
    clock.frame_done()
    assert clock.means_ms["read"] >= 59
    assert clock.means_ms["detect"] >= 89
    assert clock.means_ms["mesh"] < clock.means_ms["read"]
    before = clock.means_ms["read"]
    clock.frame_done()
    assert clock.means_ms["read"] == pytest.approx(0.9 * before)  # a frame without reading takes the mean down
    assert clock.rate_hz > 0


def test_timed_calls_keep_the_rest_of_an_object():
    class Named:
        name = "detector"

        def __call__(self):
            return 5

    timed = StageClock().timed_calls("detect", Named())
    assert (timed(), timed.name) == (5, "detector")


@pytest.mark.slow
def test_in_a_browser(server, newest, image, face, tmp_path):
    """The stream has a size, the mesh is drawn in colours, the figures are filled in."""
    stop = threading.Event()

    def run():
        number, clock = 0, StageClock()
        while not stop.is_set():
            with clock.stage("read"):
                time.sleep(0.05)
            newest.show(Frame(image, number, 0.0, "clip.mp4"), [face], clock)
            clock.frame_done()
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    browser = None
    try:
        browser = Chromium(server.url, tmp_path / "profile")
        browser.wait_for("document.getElementById('stream')?.naturalWidth === 320")
        browser.wait_for("typeof drawn !== 'undefined' && drawn > 1 && vertices === 43867")
        browser.wait_for("document.querySelectorAll('#faces tr').length === 2")
        faces = browser.evaluate("document.getElementById('faces').textContent")
        assert "80 %" in faces
        assert "90 %" in faces
        assert "read" in browser.evaluate("document.getElementById('stages').textContent")
        browser.screenshot(tmp_path / "page.png")
        page = cv2.imread(str(tmp_path / "page.png"))
        box = browser.evaluate(
            "(() => { const b = document.getElementById('mesh').getBoundingClientRect();"
            " return [b.left, b.top, b.width, b.height].map(Math.round); })()"
        )
        left, top, width, height = box
        middle = page[top + height // 3 : top + 2 * height // 3, left + width // 3 : left + 2 * width // 3]
        corner = page[top + 8 : top + 20, left + 8 : left + 20]
        assert middle.mean() > corner.mean() + 30  # the mesh is brighter than the ground
        assert browser.evaluate("gl.getError()") == 0
    finally:
        stop.set()
        thread.join()
        if browser is not None:
            browser.close()
