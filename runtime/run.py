"""``python -m runtime.run``: face meshes of a photo, a folder of photos, a film, a camera or a stream."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.console.arguments import not_empty, positive_int, probability, whole_number
from runtime.console.exit_codes import exit_code_of
from runtime.console.stop_signals import StopSignals
from runtime.console.tally import Tally
from runtime.console.terminal import print_line, quiet_libraries
from runtime.detection.interface import Detector, WholePicture
from runtime.detection.open_detector import open_detector
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner, require_trained
from runtime.models.shipped import SHIPPED
from runtime.outputs.face_files import TEXTURE_SIZE
from runtime.outputs.sinks import FORMATS, SPARSE_FORMATS, open_sinks
from runtime.pipeline import FaceMeshPipeline
from runtime.rendering.texture import LARGEST_SIDE, LEAST_SIDE
from runtime.sources.arguments import add_source_arguments, read_options, source_problem
from runtime.sources.boxes_csv import read_boxes, tell_of_few_boxes
from runtime.sources.frame_source import FrameSource
from runtime.sources.video import ReadOptions
from runtime.tracking.arguments import add_tracking_arguments, tracking_of, tracking_problem
from runtime.types import Frame
from runtime.viewer.live import add_live_arguments, open_live_sinks
from runtime.viewer.stage_clock import StageClock

MOST_NAMES = 20  # of other files in one line
EPILOG = """\
A box is the tight box of the 68 landmarks, in pixels of the picture the way a person sees it (EXIF rotation applied).
Output: results.jsonl (of this run alone) with one line per picture, NAME_overlay.jpg or one NAME_overlay.mp4,
NAME_face0.obj and so on.
Ctrl-C, SIGTERM and SIGHUP end the run after the frame at hand; every file is whole then. A second one ends it at once.
Exit code: 0 all done, 1 something failed (each failure is named, the rest is done), 2 wrong usage, 130 stopped by
Ctrl-C, 143 by SIGTERM, 129 by SIGHUP, 141 the reader of the output went away."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments``; returns the exit code."""
    return exit_code_of(lambda: _run_command(arguments))


def _run_command(arguments: list[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(arguments)
    if problem := _usage_problem(args):
        parser.error(problem)
    with quiet_libraries():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    tally = Tally()
    if args.threads:
        cv2.setNumThreads(args.threads)
    options = read_options(args)
    with (
        FrameSource(args.source, tally.failed, options, print_line) as source,
        _open_runner(args) as runner,
        _opened_detector(args, runner, is_film=source.video is not None) as detector,
    ):
        if not args.untrained:
            require_trained(runner.spec)
        _tell_of_source(source, args)
        tracking = tracking_of(args, is_film=source.video is not None)
        dense = args.serve is not None or not SPARSE_FORMATS.issuperset(args.save)
        clock = StageClock()
        pipeline = FaceMeshPipeline(
            runner,
            clock.timed_calls("detect", detector),
            dense=dense,
            min_confidence=args.min_confidence,
            tracking=tracking,
        )
        boxes_of = None if args.boxes is None else _given_boxes(args, source)
        detects = args.boxes is None and args.detector != "none"
        ahead = not source.is_live
        tally.note = (
            f" in {runner.spec.precision}"
            + ", detection included" * detects
            + ", tracked" * bool(tracking)
            + ", GPU work overlapped" * (pipeline.overlaps and ahead)
        )
        source.frame_buffer = pipeline.frame_buffer  # the sinks are done with a frame before the next one is asked for
        with StopSignals(source.stop) as signals:
            try:
                with open_sinks(
                    args.output,
                    args.save,
                    pipeline.family.topology,
                    source.video,
                    texture_size=args.texture_size,
                    live=lambda: open_live_sinks(args, pipeline.family.topology, clock),
                ) as sinks:
                    frames = tally.outside(clock.timed("read", _with_bar(source)))
                    found = pipeline.stream(frames, boxes_of, tally.failed, ahead=ahead)
                    for frame, faces in tally.inside(clock.timed("mesh", found)):
                        with clock.stage("write"):
                            sinks.write(frame, faces)
                        tally.written(faces, pipeline.left_out)
                signals.raise_received()
                _tell_of_missing_frames(source, options, tally)
            finally:
                tally.dropped = source.dropped
                tally.print_summary(args.output)
    return 1 if tally.failures else 0


def _open_runner(args: argparse.Namespace) -> Runner:
    return open_runner(
        args.engine,
        threads=args.threads,
        precision=args.precision,
        sync=args.sync,
        memory=args.memory,
        trust_engine=args.trust_engine,
        provider=args.provider,
        face_model=args.face_model,
        landmarks_from=args.landmarks_from,
        reuse_landmarks=args.reuse_landmarks,
    )


@contextmanager
def _opened_detector(args: argparse.Namespace, runner: Runner, is_film: bool) -> Iterator[Detector]:
    """Open the detector that ``--detector`` names; of tracked people the tracker chooses, not the detector."""
    if args.detector == "none":
        yield WholePicture(runner.spec.crop_scale)
        return
    model = None if args.detector == "yunet" else Path(args.detector)
    max_faces = None if tracking_of(args, is_film) else args.max_faces
    with open_detector(
        model,
        max_faces=max_faces,
        side=args.detection_size,
        sync=args.sync,
        trust_engine=args.trust_engine,
        provider=args.provider if model is not None and model.suffix.lower() == ".onnx" else None,
    ) as detector:
        yield detector


def _given_boxes(args: argparse.Namespace, source: FrameSource) -> Callable[[Frame], NDArray[np.float32]]:
    boxes = read_boxes(args.boxes, source.photos)
    tell_of_few_boxes(args.boxes, boxes)
    return lambda frame: boxes[frame.source][: args.max_faces]


def _tell_of_source(source: FrameSource, args: argparse.Namespace) -> None:
    """Name the files of a folder that are no photos, and an option without effect: nothing is left out in silence."""
    if names := [path.name for path in source.other_files]:
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        print_line(f"note: {source.uri}: no photos, left out: {', '.join(names[:MOST_NAMES])}{more}")
    if args.live and not source.is_live:
        print_line(f"note: {source.uri}: no camera or stream; --live drops nothing here")


def _tell_of_missing_frames(source: FrameSource, options: ReadOptions, tally: Tally) -> None:
    """Tell of a film that is shorter than its header says; damaged places have their own line."""
    done = tally.pictures + tally.failures
    if source.video and options.is_whole and not source.damaged and done < (source.frame_count or 0):
        print_line(
            f"note: {source.uri}: only {done} of the {source.frame_count} frames that the file promises could be read"
        )


def _with_bar(source: FrameSource) -> Iterable[Frame]:
    """Add a progress bar to ``source`` if there is something to wait for and tqdm is installed."""
    if len(source.photos) == 1:
        return source
    try:
        from runtime.console.progress import progress_bar
    except ModuleNotFoundError:
        return source
    return progress_bar(source, source.expected_frames, unit="picture" if source.photos else "frame")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtime.run",
        description=__doc__.partition(": ")[2],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_file_arguments(parser)
    add_source_arguments(parser)
    _add_face_arguments(parser)
    add_tracking_arguments(parser)
    add_live_arguments(parser)
    _add_device_arguments(parser)
    return parser


def _add_file_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        metavar="MODEL",
        help="model.onnx or model.engine, with its .json beside it; default: the shipped model",
    )
    parser.add_argument(
        "--face-model",
        type=Path,
        metavar="FILE.npz",
        help="of a network of coefficients; default: the one that its .json names, or that lies beside the model",
    )
    parser.add_argument(
        "--landmarks-from",
        type=Path,
        metavar="MODEL",
        help="network that finds landmarks first, for a model that takes them beside the picture, such as 2dasl",
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="run a model of random weights ('python -m export onnx --untrained'): for timing, its meshes mean nothing",
    )
    parser.add_argument(
        "--reuse-landmarks",
        action="store_true",
        help="give such a model the landmarks of the last frame where a face is tracked; faster, but it may drift off",
    )
    parser.add_argument(
        "--output",
        type=lambda text: Path(not_empty(text)),
        default=Path("out"),
        metavar="DIR",
        help="folder for what is written, made if needed; default: out",
    )
    parser.add_argument(
        "--save",
        type=_formats,
        default=["overlay", "json"],
        metavar="LIST",
        help=f"some of {','.join(FORMATS)}; default: overlay,json",
    )
    parser.add_argument(
        "--texture-size",
        type=whole_number(LEAST_SIDE, LARGEST_SIDE),
        default=TEXTURE_SIZE,
        metavar="PX",
        help=f"side of textures; default: {TEXTURE_SIZE}",
    )


def _add_face_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE.csv",
        help="known faces instead of detection: lines path,x1,y1,x2,y2 under that header, all of them sound",
    )
    parser.add_argument(
        "--detector",
        type=not_empty,
        default="yunet",
        metavar="yunet|none|FILE",
        help="an engine or .onnx of 'python -m export detector --size'; none: every picture is already the square cut "
        "round one face, margin included; default: yunet, on the CPU",
    )
    parser.add_argument(
        "--detection-size",
        type=positive_int,
        metavar="PX",
        help="longer side of the detector's input (default: 640, and 1280 too for pictures over 2560)",
    )
    parser.add_argument(
        "--max-faces",
        type=positive_int,
        metavar="N",
        help="at most the N best faces of a picture, or its first N boxes",
    )
    parser.add_argument(
        "--min-confidence",
        type=probability,
        metavar="P",
        help="leave out faces whose landmarks are right with a lower probability, 0 to 1 (default: keep all)",
    )


def _add_device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        help="CPU threads; default: one for a model that runs in 5 ms, up to four for others",
    )
    parser.add_argument(
        "--precision",
        choices=tuple(SHIPPED),
        help="of the shipped model (default: int8 on processors with instructions for it, elsewhere fp32)",
    )
    parser.add_argument(
        "--provider",
        choices=("cuda", "tensorrt", "nv-tensorrt-rtx"),
        help="run an .onnx model on a GPU with the ONNX Runtime package for it (default: the CPU)",
    )
    parser.add_argument(
        "--sync",
        choices=("spin", "block"),
        default="spin",
        help="wait for the GPU with the least delay, or leave the core to others (spin)",
    )
    parser.add_argument(
        "--memory",
        choices=("copy", "mapped"),
        help="of frames, and of landmarks alone, on the GPU road (default: mapped where GPU and host share it)",
    )
    parser.add_argument(
        "--trust-engine",
        action="store_true",
        help="load an engine without a fitting manifest, though the code in it will run; only what you built",
    )


def _usage_problem(args: argparse.Namespace) -> str | None:
    if args.engine is not None and args.precision is not None:
        return f"--precision {args.precision} chooses a form of the shipped model; leave out --engine or --precision"
    if args.detector not in ("yunet", "none") and not Path(args.detector).suffix:
        return f"--detector {args.detector}: must be yunet, none or a detector's file, .onnx or .engine"
    if args.serve_token is not None and args.serve is None:
        return "--serve-token goes with --serve"
    return source_problem(args) or _folder_problem(args) or tracking_problem(args)


def _folder_problem(args: argparse.Namespace) -> str | None:
    if not Path(args.source).is_dir():
        return None
    source, output = os.path.realpath(args.source), os.path.realpath(args.output)
    if source == output:
        return f"--output {args.output} is the source folder: its pictures could be overwritten, choose another"
    if args.recursive and output.startswith(source + os.sep):
        return f"--output {args.output} lies in the source folder: --recursive would read overlays, choose another"
    return None


def _formats(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in FORMATS]:
        raise argparse.ArgumentTypeError(
            f"unknown format {', '.join(map(repr, unknown))}; choose from {','.join(FORMATS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
