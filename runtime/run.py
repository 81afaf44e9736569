"""``python -m runtime.run``: face meshes of a photo, a folder of photos, a video or a camera."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import cv2

from runtime.boxes import read_boxes
from runtime.cli import run_guarded
from runtime.detector import Detector, WholePicture, YuNetDetector
from runtime.errors import FaceMeshError
from runtime.pipeline import FaceMeshPipeline
from runtime.runner import open_runner
from runtime.sinks import FORMATS, open_sinks
from runtime.sources import CAMERA_PREFIX, VIDEO_SUFFIXES, FrameSource
from runtime.types import FaceMesh, Frame

EPILOG = """\
A box is the tight box of the 68 landmarks, in pixels of the picture the way a person sees it (EXIF rotation applied).
Output: results.jsonl (of this run alone) with one line per picture, NAME_overlay.jpg or one NAME_overlay.mp4, NAME_face0.obj and so on.
Exit code: 0 all done, 1 something failed (each failure is named, the rest is done), 2 wrong usage, 130 stopped by Ctrl-C."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments``; returns the exit code."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if problem := _usage_problem(args):
        parser.error(problem)
    with _quiet_libraries():
        return run_guarded(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    tally = _Tally(", detection included" if args.boxes is None and args.detector == "yunet" else "")
    if args.threads:
        cv2.setNumThreads(args.threads)
    with FrameSource(args.source, on_error=tally.failed) as source, open_runner(args.engine, threads=args.threads) as runner:
        detector: Detector = WholePicture(runner.spec.crop_scale) if args.detector == "none" else YuNetDetector(max_faces=args.max_faces)
        pipeline = FaceMeshPipeline(runner, detector)
        find_faces = pipeline if args.boxes is None else _given_faces(pipeline, args, source)
        try:
            with open_sinks(args.output, args.save, pipeline.topology, None if source.photos else source.fps) as sinks:
                for frame in _with_bar(source):
                    if (faces := tally.timed(find_faces, frame)) is not None:
                        sinks.write(frame, faces)
                        tally.written(faces)
            if not source.photos and (done := tally.pictures + tally.failures) < (source.frame_count or 0):
                print(f"note: {source.uri}: only {done} of the {source.frame_count} frames that the file promises could be read", file=sys.stderr)
        finally:
            tally.print_summary(args.output)
    return 1 if tally.failures else 0


def _given_faces(pipeline: FaceMeshPipeline, args: argparse.Namespace, source: FrameSource) -> Callable[[Frame], list[FaceMesh]]:
    boxes = read_boxes(args.boxes, source.photos)
    return lambda frame: pipeline.from_boxes(frame, boxes[frame.source][: args.max_faces])


class _Tally:
    """Counts what was done and says what was not."""

    def __init__(self, note: str) -> None:
        self._note = note  # to the time per face
        self.pictures = self.faces = self.failures = 0
        self.seconds = 0.0  # in which faces were found

    def timed(self, find_faces: Callable[[Frame], list[FaceMesh]], frame: Frame) -> list[FaceMesh] | None:
        """The faces of ``frame``; None when that failed, which is counted and said."""
        start = time.perf_counter()
        try:
            faces = find_faces(frame)
        except FaceMeshError as error:
            self.failed(FaceMeshError(f"{frame.source}: {error}"))
            return None
        self.seconds += time.perf_counter() - start
        return faces

    def written(self, faces: list[FaceMesh]) -> None:
        self.pictures += 1
        self.faces += len(faces)

    def failed(self, error: FaceMeshError) -> None:
        self.failures += 1
        _print_line(f"error: {error}")

    def print_summary(self, output: Path) -> None:
        if not self.pictures:
            return
        parts = [_count(self.pictures, "picture"), _count(self.faces, "face")]
        if self.faces:
            parts.append(f"{1000 * self.seconds / self.faces:.1f} ms per face{self._note}")
        if self.failures:
            parts.append(_count(self.failures, "failure"))
        print(f"{', '.join(parts)}; results in {output}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _with_bar(source: FrameSource) -> Iterable[Frame]:
    """``source`` with a progress bar, where there is something to wait for and tqdm is installed."""
    if source.frame_count is None or len(source.photos) == 1:
        return source
    try:
        from runtime.progress import progress_bar
    except ModuleNotFoundError:
        return source
    return progress_bar(source, source.frame_count, unit="picture")


def _print_line(line: str) -> None:
    """On stderr, above the bar if there is one."""
    try:
        from runtime.progress import print_above_bar
    except ModuleNotFoundError:
        print(line, file=sys.stderr)
    else:
        print_above_bar(line)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Image and video libraries write remarks of their own to file descriptor 2; only this program's lines get through."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no descriptor 2
        yield
        return
    stderr = sys.stderr
    if _is_descriptor_2(stderr):
        sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=stderr.encoding, errors=stderr.errors, closefd=False)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        if sys.stderr is not stderr:
            sys.stderr.flush()
            sys.stderr = stderr
        os.dup2(kept, 2)
        os.close(kept)


def _is_descriptor_2(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == 2
    except (OSError, ValueError):  # replaced by something that is no file, or closed
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime.run", description=__doc__.partition(": ")[2], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", metavar="MODEL.onnx", help="model, with its spec MODEL.onnx.json beside it; default: the shipped one")
    parser.add_argument(
        "--source", required=True, type=_not_empty, metavar="PHOTO|FOLDER|VIDEO|camera:0", help="a folder's photos in the order of their names"
    )
    parser.add_argument(
        "--output",
        type=lambda text: Path(_not_empty(text)),
        default=Path("out"),
        metavar="DIR",
        help="folder for what is written, made if needed; default: out",
    )
    parser.add_argument(
        "--save", type=_formats, default=["overlay", "json"], metavar="LIST", help=f"some of {','.join(FORMATS)}; default: overlay,json"
    )
    parser.add_argument(
        "--boxes", type=Path, metavar="FILE.csv", help="known faces instead of detection: lines path,x1,y1,x2,y2 under that header, all of them sound"
    )
    parser.add_argument(
        "--detector", choices=("yunet", "none"), default="yunet", help="none: every picture is already the square cut round one face, margin included"
    )
    parser.add_argument("--max-faces", type=_positive_int, metavar="N", help="at most the N best faces of a picture, or its first N boxes")
    parser.add_argument(
        "--threads", type=_positive_int, metavar="N", help="CPU threads; default: one for a model that runs in 5 ms, up to four for others"
    )
    return parser


def _usage_problem(args: argparse.Namespace) -> str | None:
    source, is_camera = Path(args.source), args.source.startswith(CAMERA_PREFIX)
    if is_camera and not args.source.removeprefix(CAMERA_PREFIX).isdecimal():
        return f"--source {args.source}: a camera is named by its number, such as camera:0"
    if args.boxes is not None and (is_camera or source.suffix.lower() in VIDEO_SUFFIXES):
        return "--boxes goes with a photo or a folder; faces of a video or camera have to be detected"
    if source.is_dir() and os.path.realpath(source) == os.path.realpath(args.output):
        return f"--output {args.output} is the source folder: its pictures could be overwritten, choose another"
    return None


def _formats(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"unknown format {', '.join(map(repr, unknown))}; choose from {','.join(FORMATS)}")
    return names


def _not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; an unset variable?")
    return text


def _positive_int(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, is {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
