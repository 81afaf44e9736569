"""Script for an interpreter with MediaPipe 0.10.21, not for ours: time Face Mesh on the pictures on stdin.

Per picture: a line "height width", then height × width × 3 bytes RGB. The answer is a line with the milliseconds of one
call of ``FaceMesh.process`` in tracking, "nan" if no face was found. Two calls go before it: the first finds the face,
the second settles.

With the argument "frames" the pictures are the frames of a film, and there is one call for each. "cores=N" binds this
process to N cores: MediaPipe chooses its threads itself.

With the argument "points" the pictures are the frames of films, and the answer is a line with x and y of the 468
points, px, "nan" if no face was found. A line "0 0" without pixels begins another film and has no answer.
"""

from __future__ import annotations

import os
import sys
import time

import mediapipe
import numpy


def open_mesh() -> mediapipe.solutions.face_mesh.FaceMesh:
    """Open it for one face in tracking."""
    return mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=False)


def read_picture(header: bytes) -> numpy.ndarray:
    """Return the picture (height, width, 3) RGB that follows a header."""
    height, width = map(int, header.split())
    return numpy.frombuffer(sys.stdin.buffer.read(height * width * 3), numpy.uint8).reshape(height, width, 3)


def answer_points() -> None:
    """Answer every frame with its points."""
    mesh = open_mesh()
    print("ready", mediapipe.__version__, flush=True)
    for header in sys.stdin.buffer:
        image = read_picture(header)
        if image.size == 0:
            mesh.close()
            mesh = open_mesh()
            continue
        faces = mesh.process(image).multi_face_landmarks or []
        height, width = image.shape[:2]
        points = [(point.x * width, point.y * height) for face in faces for point in face.landmark]
        print(" ".join(f"{x:.4f} {y:.4f}" for x, y in points) or "nan", flush=True)


def answer_times(warm_ups: int) -> None:
    """Answer every picture with its time, after ``warm_ups`` calls that do not count."""
    mesh = open_mesh()
    print("ready", mediapipe.__version__, flush=True)
    for header in sys.stdin.buffer:
        image = read_picture(header)
        for _ in range(warm_ups):
            mesh.process(image)
        start = time.perf_counter()
        found = mesh.process(image).multi_face_landmarks
        seconds = time.perf_counter() - start
        print(f"{1000 * seconds:.6f}" if found else "nan", flush=True)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument.startswith("cores="):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(argument.removeprefix("cores="))])
    if "points" in sys.argv:
        answer_points()
    else:
        answer_times(0 if "frames" in sys.argv else 2)
