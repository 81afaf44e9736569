"""A network camera: JPEGs over HTTP, as many cheap ones send them, with pauses, losses and changes of size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np

MARK = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"


class MjpegServer:
    """Serves ``picture(number)`` every ``pause_s`` seconds on http://127.0.0.1:PORT/; it can be stopped and started."""

    def __init__(self, picture: Callable[[int], np.ndarray], pause_s: float) -> None:
        self.picture = picture
        self.pause_s = pause_s
        self.sent = 0
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._stopped = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/camera"

    def start(self) -> None:
        self._stopped.clear()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    while not camera._stopped.wait(camera.pause_s):
                        data = cv2.imencode(".jpg", camera.picture(camera.sent))[1].tobytes()
                        self.wfile.write(MARK % (len(data), data))
                        camera.sent += 1
                except OSError:  # the client has gone
                    pass

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            time.sleep(0.05)


@contextmanager
def serving(picture: Callable[[int], np.ndarray], pause_s: float) -> Iterator[MjpegServer]:
    """Serve pictures until the end of the ``with``."""
    server = MjpegServer(picture, pause_s)
    server.start()
    try:
        yield server
    finally:
        server.stop()
