"""MediaPipe Face Mesh as a peer. It pins libraries that do not fit ours, so it runs in an environment of its own."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.records.measured_faces import Face
from runtime.errors import FaceMeshError

REMEDY = (
    "make an environment with 'python -m venv DIR' and 'DIR/bin/pip install mediapipe==0.10.21', "
    "and give its DIR/bin/python"
)


class MediaPipePeer:
    """Whole calls in tracking, the state of its published speed: the whole picture goes in, detection does not run."""

    stages = ("crop + network + decode",)
    vertices = 468

    def __init__(self, python: Path) -> None:
        """Start MediaPipe in ``python``, the interpreter of an environment that has it.

        Raises `FaceMeshError` if it does not start.
        """
        worker = Path(__file__).with_name("mediapipe_worker.py")
        try:
            self._process = subprocess.Popen(
                [python, worker], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise FaceMeshError(f"{python}: cannot be run ({error.strerror}); {REMEDY}") from None
        greeting = self._process.stdout.readline().decode().split()
        if greeting[:1] != ["ready"]:
            self.close()
            raise FaceMeshError(f"{python}: MediaPipe's Face Mesh does not start there; {REMEDY}")
        self.name = f"MediaPipe Face Mesh {greeting[1]}"
        call = "one call in tracking on the whole picture, without refinement of the irises"
        self.note = f"{call}; timed inside its own process"

    def run(self, face: Face) -> tuple[list[float], None]:
        """Return the seconds of one call; it has not the 68 landmarks."""
        height, width = face.image.shape[:2]
        pixels = np.ascontiguousarray(face.image[:, :, ::-1]).tobytes()
        try:
            self._process.stdin.write(f"{height} {width}\n".encode() + pixels)
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            code = self._process.wait()
            remedy = "leave --mediapipe-python out to measure without it"
            raise FaceMeshError(f"MediaPipe's process ended with code {code}; {remedy}")
        return [float(answer) / 1000], None

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):  # it may be gone, with something unsent in the pipe
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
