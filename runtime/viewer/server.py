"""HTTP server of the viewer: the page, the annotated stream as MJPEG, meshes and figures. Nothing comes from elsewhere.

On 127.0.0.1 it answers requests by that name alone, so that no page of another host can read it; on other addresses it
wants a token.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np

from runtime.errors import FaceMeshError, reason
from runtime.viewer.newest import LEAST_PAUSE_S, Newest

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
MOST_CLIENTS = 16
SEND_TIMEOUT_S = 5.0  # a client that takes nothing for so long is let go
WAIT_S = 1.0
LOOK_S = 0.05  # between two looks at whether it is to close
BOUNDARY = "frame"
CONTENT_POLICY = "default-src 'self' 'unsafe-inline'"


class ViewerServer:
    """Server of a `Newest`, in threads of its own; ``url`` is the address of the page, token included."""

    def __init__(self, newest: Newest, host: str, port: int, token: str | None = None) -> None:
        """Listen on ``host`` and ``port``, 0 for any free one.

        ``token`` None makes one for any ``host`` but this machine's own. Raises `FaceMeshError` if the address cannot
        be used.
        """
        is_local = host in LOOPBACK
        self._newest = newest
        self._token = token or (None if is_local else secrets.token_urlsafe(16))
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            fault = f"--serve {host}:{port}: cannot listen there ({reason(error)})"
            raise FaceMeshError(f"{fault}; choose another port") from error
        self._server.viewer = _Served(newest, self._token, is_local)
        shown_host = f"[{host}]" if ":" in host else host
        query = f"/?token={quote(self._token, safe='')}" if self._token else "/"
        self.url = f"http://{shown_host}:{self._server.server_address[1]}{query}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOK_S,), name="viewer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end all streams."""
        self._newest.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Served:
    """State that handlers share."""

    def __init__(self, newest: Newest, token: str | None, is_local: bool) -> None:
        self.newest = newest
        self.token = token
        self.is_local = is_local
        self.places = threading.BoundedSemaphore(MOST_CLIENTS)
        self.page = resources.files("runtime.viewer").joinpath("page.html").read_bytes()
        self.topology = np.ascontiguousarray(newest.topology.triangles, "<u4").tobytes()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # threads of slow clients end by themselves
    allow_reuse_address = True
    request_queue_size = MOST_CLIENTS  # beyond it a client tries again a second later
    viewer: _Served

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients come and go."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "facemesh-edge"
    sys_version = ""
    timeout = SEND_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        """Answer one request."""
        served = self.server.viewer
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if not self._is_allowed(query):
            fault = b"the token is missing or wrong, or the host is not this one\n"
            self._send(HTTPStatus.FORBIDDEN, "text/plain", fault)
            return
        answers: dict[str, Callable[[], object]] = {
            "/": lambda: self._send(HTTPStatus.OK, "text/html; charset=utf-8", served.page),
            "/stream": self._stream,
            "/mesh": lambda: self._send_mesh(query),
            "/topology": lambda: self._send(HTTPStatus.OK, "application/octet-stream", served.topology),
            "/state": lambda: self._send(HTTPStatus.OK, "application/json", served.newest.state()),
        }
        if url.path not in answers:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"there is nothing here\n")
            return
        if not served.places.acquire(blocking=False):
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"too many look on\n")
            return
        try:
            with contextlib.suppress(OSError):  # the client is gone, or takes nothing
                answers[url.path]()
        finally:
            served.places.release()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the terminal for the run."""

    def _is_allowed(self, query: dict[str, str]) -> bool:
        served = self.server.viewer
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if served.is_local and host not in LOOPBACK:
            return False
        return served.token is None or hmac.compare_digest(query.get("token", "").encode(), served.token.encode())

    def _stream(self) -> None:
        """Send the annotated pictures as they come, at most 20 a second; a slow client skips some."""
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        number, newest = 0, self.server.viewer.newest
        while not newest.closed:
            began = time.monotonic()
            found = newest.picture_after(number, WAIT_S)
            if found is None:
                continue
            number, picture = found
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode("ascii") + picture + b"\r\n")
            time.sleep(max(0.0, LEAST_PAUSE_S - (time.monotonic() - began)))

    def _send_mesh(self, query: dict[str, str]) -> None:
        after = query.get("after", "0")
        found = self.server.viewer.newest.mesh_after(int(after) if after.isdecimal() else 0, WAIT_S)
        if found is None:
            self._send(HTTPStatus.NO_CONTENT, "application/octet-stream", b"")
        else:
            self._send(HTTPStatus.OK, "application/octet-stream", found[1])

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", CONTENT_POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)
