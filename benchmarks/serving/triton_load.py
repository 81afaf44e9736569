"""Clients of a Triton server, all at once. Home module of tritonclient."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from runtime.errors import FaceMeshError, one_line

PROTOCOLS: dict[str, Any] = {"grpc": tritonclient.grpc, "http": tritonclient.http}
OUTPUTS = ("faces", "landmarks", "pose", "confidence")


class Client:
    """One connection that sends photos, one per request."""

    def __init__(self, protocol: str, address: str, model: str) -> None:
        """Prepare a connection to ``address``, HOST:PORT; nothing is sent yet."""
        self._library = PROTOCOLS[protocol]
        self._client = self._library.InferenceServerClient(address)
        self._model = model
        self._outputs = [self._library.InferRequestedOutput(name) for name in OUTPUTS]

    def check(self) -> None:
        """Raise `FaceMeshError` unless the server has the model ready."""
        try:
            ready = self._client.is_model_ready(self._model)
        except Exception as error:  # the libraries below raise exceptions of their own
            raise FaceMeshError(
                f"no server answers ({one_line(error, 120)}); start tritonserver, see --server"
            ) from None
        if not ready:
            raise FaceMeshError(f"the server has no model {self._model!r} ready; load it, or choose another --model")

    def faces(self, photo: bytes) -> int:
        """Return the number of faces that the server finds. Raises `FaceMeshError` with the server's reason."""
        tensor = self._library.InferInput("encoded", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[photo]], object))
        try:
            answer = self._client.infer(self._model, [tensor], outputs=self._outputs)
        except Exception as error:
            raise FaceMeshError(one_line(error)) from None
        return int(answer.as_numpy("faces")[0, 0])

    def close(self) -> None:
        """End the connection."""
        self._client.close()


def served_latencies(
    protocol: str, address: str, model: str, photos: Sequence[bytes], clients: int, seconds: float
) -> tuple[NDArray[np.float64], float, int]:
    """Let ``clients`` send photos for ``seconds``, each its next one when the last is answered.

    Returns the time of every answer, s, the time that all took, s, and the number of requests that failed.
    """
    latencies: list[float] = []
    failures = itertools.count()
    start = time.perf_counter()
    end = start + seconds

    def send(offset: int) -> None:
        client = Client(protocol, address, model)
        for photo in itertools.islice(itertools.cycle(photos), offset, None):
            sent = time.perf_counter()
            if sent > end:
                break
            try:
                client.faces(photo)
            except FaceMeshError:
                next(failures)
            else:
                latencies.append(time.perf_counter() - sent)
        client.close()

    threads = [threading.Thread(target=send, args=(number % len(photos),), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(latencies), time.perf_counter() - start, next(failures)
