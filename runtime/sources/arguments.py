"""Arguments of commands for the sources."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from runtime.console.arguments import not_empty, positive_int, positive_number, time_of_film
from runtime.errors import FaceMeshError
from runtime.sources.address import VIDEO_SUFFIXES, Address, WrongAddressError, parse_address
from runtime.sources.video import ReadOptions


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--source`` and the options of reading."""
    parser.add_argument(
        "--source",
        required=True,
        type=not_empty,
        metavar="PHOTO|FOLDER|FILM|CAMERA|URL",
        help="camera:0, /dev/video0, csi:0 (Jetson), rtsp://… http://… or gst:PIPELINE besides files; "
        "a folder's photos come in the order of their names, and each one that cannot be read is named",
    )
    parser.add_argument("--recursive", action="store_true", help="search the subfolders of a folder, too")
    parser.add_argument(
        "--live",
        action="store_true",
        help="of a camera or stream always take the newest frame, and count the dropped ones",
    )
    parser.add_argument(
        "--patience",
        type=positive_number,
        default=ReadOptions.patience_s,
        metavar="S",
        help="seconds for which a camera or stream that was lost is opened again; default: %(default)g",
    )
    parser.add_argument(
        "--start",
        type=time_of_film,
        default=0.0,
        metavar="TIME",
        help="of a film: leave out the frames before it; seconds or h:mm:ss; default: 0",
    )
    parser.add_argument(
        "--stop",
        type=time_of_film,
        default=math.inf,
        metavar="TIME",
        help="leave out the frames of a film or camera from it on; default: none",
    )
    parser.add_argument(
        "--every",
        type=positive_int,
        default=1,
        metavar="N",
        help="take the first frame and every Nth after it; default: 1",
    )


def read_options(args: argparse.Namespace) -> ReadOptions:
    """Return the options of reading that were given."""
    return ReadOptions(args.recursive, args.live, args.patience, args.start, args.stop, args.every)


def source_problem(args: argparse.Namespace) -> str | None:
    """Return what can never be read, None if everything may be; missing files are told of when they are opened."""
    try:
        address = parse_address(args.source)
    except WrongAddressError as error:
        return f"--source {error}"
    except FaceMeshError:
        is_film = Path(args.source).suffix.lower() in VIDEO_SUFFIXES
        address = Address("film" if is_film else "photos", args.source, args.source)
    if args.boxes is not None and address.kind != "photos":
        return "--boxes goes with a photo or a folder; faces of a video or camera have to be detected"
    if address.kind == "photos" and not read_options(args).is_whole:
        return "--start, --stop and --every choose frames of a film; photos have no times"
    if args.start and address.kind not in ("film", "stream"):
        return "--start goes with a film; a camera starts when it starts"
    if args.start >= args.stop:
        return f"--start {args.start:g} is not before --stop {args.stop:g}; no frame lies between them"
    return None
