"""``python -m runtime.swap``: the face of one photo, or a part of it, on the head of another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.console.arguments import not_empty
from runtime.console.exit_codes import exit_code_of
from runtime.console.terminal import quiet_libraries
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError, reason
from runtime.inference.open_runner import open_runner, require_trained
from runtime.outputs.map_files import write_picture
from runtime.outputs.overlay_files import JPEG_QUALITY
from runtime.pipeline import FaceMeshPipeline
from runtime.rendering.face_swap import PART_NAMES, FaceSwapper
from runtime.rendering.maps import face_size
from runtime.sources.photos import read_photo
from runtime.types import FaceMesh

# Beyond it half of a face is hidden, and the border of the mesh takes in what lies behind.
MOST_YAW_DEG = 45.0
SUFFIXES = (".jpg", ".jpeg", ".png")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments``; returns the exit code."""
    return exit_code_of(lambda: _run_command(arguments))


def _run_command(arguments: list[str] | None) -> None:
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.output.suffix.lower() not in SUFFIXES:
        parser.error(f"--output {args.output}: the suffix must be one of {' '.join(SUFFIXES)}")
    with quiet_libraries():
        _run(args)


def _run(args: argparse.Namespace) -> None:
    image, reference = read_photo(args.source), read_photo(args.reference)
    with open_runner(args.engine, face_model=args.face_model) as runner:
        require_trained(runner.spec)
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        face = _largest(pipeline, image, args.source)
        reference_face = _largest(pipeline, reference, args.reference)
        swapper = FaceSwapper(pipeline.family.topology)
    result = swapper.swap(image, face, reference, reference_face, args.part)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = f"{args.output.parent}: cannot be made ({reason(error)})"
        raise FaceMeshError(f"{fault}; choose another --output") from None
    write_picture(args.output, result, JPEG_QUALITY if args.output.suffix.lower() != ".png" else None)
    print(f"{args.part} of {args.reference} on {args.source}; result in {args.output}")


def _largest(pipeline: FaceMeshPipeline, image: NDArray[np.uint8], path: Path) -> FaceMesh:
    """Return the largest face of a picture; raises `FaceMeshError` if there is none, and for a half-hidden one."""
    faces = pipeline(image)
    if not faces:
        raise FaceMeshError(f"{path}: no face was found; give a photo with a face")
    face = max(faces, key=face_size)
    if abs(face.pose.yaw_deg) > MOST_YAW_DEG:
        problem = f"the face is turned by {abs(face.pose.yaw_deg):.0f}°, half of it is hidden"
        raise FaceMeshError(f"{path}: {problem}; give a photo turned by {MOST_YAW_DEG:g}° at most")
    return face


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime.swap", description=__doc__.partition(": ")[2])
    add = parser.add_argument
    add("--source", required=True, type=_path, metavar="PHOTO", help="the head; its largest face is painted over")
    add("--reference", required=True, type=_path, metavar="PHOTO", help="the face; the largest one is taken")
    add("--part", choices=PART_NAMES, default="face", help="of the face to take (default: face)")
    add("--output", type=_path, default=Path("out/swap.jpg"), metavar="FILE", help="JPEG or PNG; default: out/swap.jpg")
    add("--engine", metavar="MODEL", help="model.onnx or model.engine; default: the shipped model")
    add("--face-model", type=_path, metavar="FILE.npz", help="of a network of coefficients")
    return parser


def _path(text: str) -> Path:
    return Path(not_empty(text))


if __name__ == "__main__":
    sys.exit(main())
