"""Arguments of check_faces.c: pictures, models, and the landmarks that Python finds."""

from __future__ import annotations

from pathlib import Path

import cv2

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE, YUNET_ONNX
from tests.standins.coefficient_network import write_toy_model

SIDE = 256  # px of the picture: valgrind and qemu take their time


def check_arguments(folder: Path) -> list[str]:
    """Return what check_faces is called with, the tolerance aside: the FP32 model, toys, and Python's landmarks."""
    toy, guided = (write_toy_model(folder, "int8", 12, channel, name) for channel, name in ((False, "a"), (True, "b")))
    photo = cv2.resize(cv2.imread(str(SHIPPED_PICTURE)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    with open_runner(SHIPPED["fp32"]) as runner:
        (face,) = FaceMeshPipeline(runner, YuNetDetector())(photo)
    faces = [face]
    for path, first in ((toy, None), (guided, SHIPPED["fp32"])):
        with open_runner(path, landmarks_from=first) as runner:
            faces += FaceMeshPipeline(runner).from_boxes(photo, face.box_xyxy[None])
    (folder / "picture").write_bytes(photo.tobytes())
    (folder / "landmarks").write_bytes(b"".join(face.landmarks.tobytes() for face in faces))
    return [*map(str, (SHIPPED["fp32"], YUNET_ONNX, folder / "picture", SIDE, SIDE, folder / "landmarks", toy, guided))]


def check(program: Path, arguments: list[str], tolerance: float) -> list[str]:
    """Return the whole command of check_faces."""
    return [str(program), *arguments[:6], str(tolerance), *arguments[6:]]
