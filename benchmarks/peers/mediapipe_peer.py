"""MediaPipe Face Mesh as a peer. It pins libraries that do not fit ours, so it runs in an environment of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from benchmarks.records.measured_faces import Face
from runtime.cores import usable_cores
from runtime.errors import FaceMeshError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
REMEDY = (
    "make an environment with 'python -m venv DIR' and 'DIR/bin/pip install mediapipe==0.10.21', "
    "and give its DIR/bin/python"
)


class MediaPipeProcess:
    """MediaPipe's Face Mesh in tracking, in a process of its own."""

    def __init__(self, python: Path, *arguments: str, threads: int | None = None) -> None:
        """Start `mediapipe_worker` with ``arguments`` in ``python``, the interpreter of an environment that has it.

        MediaPipe chooses its threads itself: with ``threads`` its process is bound to as many cores, and BLAS in it.
        Raises `FaceMeshError` if it does not start.
        """
        worker = Path(__file__).with_name("mediapipe_worker.py")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        variables = {} if threads is None else dict.fromkeys(THREAD_VARIABLES, str(threads))
        cores = [] if threads is None else [str(min(threads, usable_cores()))]
        command = [python, worker, *arguments, *(f"cores={count}" for count in cores)]
        try:
            self._process = subprocess.Popen(command, env={**os.environ, **variables}, **pipes)
        except OSError as error:
            raise FaceMeshError(f"{python}: cannot be run ({error.strerror}); {REMEDY}") from None
        greeting = self._process.stdout.readline().decode().split()
        if greeting[:1] != ["ready"]:
            self.close()
            raise FaceMeshError(f"{python}: MediaPipe's Face Mesh does not start there; {REMEDY}")
        self.version = greeting[1]

    def ask(self, image: NDArray[np.uint8]) -> bytes:
        """Return the answer to a picture (H, W, 3) BGR. Raises `FaceMeshError` if the process has ended."""
        height, width = image.shape[:2]
        self.send(f"{height} {width}\n".encode() + np.ascontiguousarray(image[:, :, ::-1]).tobytes())
        return self._process.stdout.readline() or self._fail()

    def send(self, data: bytes) -> None:
        """Send data without an answer. Raises `FaceMeshError` if the process has ended."""
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError:
            self._fail()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):  # it may be gone, with something unsent in the pipe
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def _fail(self) -> NoReturn:
        code = self._process.wait()
        remedy = "leave --mediapipe-python out to measure without it"
        raise FaceMeshError(f"MediaPipe's process ended with code {code}; {remedy}")


class MediaPipePeer(MediaPipeProcess):
    """Whole calls in tracking, the state of its published speed: the whole picture goes in, detection does not run."""

    stages = ("crop + network + decode",)
    vertices = 468

    def __init__(self, python: Path, threads: int | None = None) -> None:
        """Start MediaPipe in ``python``. Raises `FaceMeshError` like `MediaPipeProcess`."""
        super().__init__(python, threads=threads)
        self.name = f"MediaPipe Face Mesh {self.version}"
        call = "one call in tracking on the whole picture, without refinement of the irises"
        self.note = f"{call}; timed inside its own process"

    def run(self, face: Face) -> tuple[list[float], None]:
        """Return the seconds of one call; it has not the 68 landmarks."""
        return [float(self.ask(face.image)) / 1000], None
