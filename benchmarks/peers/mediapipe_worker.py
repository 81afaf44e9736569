"""Script for an interpreter with MediaPipe 0.10.21, not for ours: time Face Mesh on the pictures on stdin.

Per picture: a line "height width", then height × width × 3 bytes RGB. The answer is a line with the milliseconds of one
call of ``FaceMesh.process`` in tracking, "nan" if no face was found. Two calls go before it: the first finds the face,
the second settles.
"""

from __future__ import annotations

import sys
import time

import mediapipe
import numpy


def main() -> None:
    """Answer every picture with its time."""
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=False)
    print("ready", mediapipe.__version__, flush=True)
    for header in sys.stdin.buffer:
        height, width = map(int, header.split())
        image = numpy.frombuffer(sys.stdin.buffer.read(height * width * 3), numpy.uint8).reshape(height, width, 3)
        for _ in range(2):
            mesh.process(image)
        start = time.perf_counter()
        found = mesh.process(image).multi_face_landmarks
        seconds = time.perf_counter() - start
        print(f"{1000 * seconds:.6f}" if found else "nan", flush=True)


if __name__ == "__main__":
    main()
