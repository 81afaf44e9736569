"""``python -m benchmarks peers``: this runtime beside other programs, on the same pictures, boxes and cores.

Networks, OpenCV and BLAS have the same number of threads. The shipped model is measured in FP32 and in the precision
that the runtime chooses on this machine. The peers take turns, each with a block of faces, in an order that rotates. A
turn begins with a pause, in which the threads of the peer before stop spinning, and two runs that do not count. Garbage
collection is off while the clock runs. Decoding of the picture and face detection are left out. ``total`` is taken per
face and is therefore not the sum of the medians.

With --film whole frames are compared: this runtime with its detector in every frame and tracked, MediaPipe and 3DDFA_V2
tracked. MediaPipe's process is bound to as many cores as the others have threads.

With --engine mb05.onnx, 3DDFA_V2's published steps run round the same file, and both also decode landmarks alone. Of
other networks of coefficients this runtime alone is measured, those with a landmark channel behind --landmarks-from.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.arguments import LANDMARKS_FROM_HELP, add_data_arguments
from benchmarks.accuracy.labelled_faces import FaceSet, load_faces
from benchmarks.accuracy.nme import summarise
from benchmarks.peers.interface import Peer
from benchmarks.peers.same_network import same_network_peers
from benchmarks.records.measured_faces import Face
from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from runtime.console.arguments import positive_int, whole_number
from runtime.console.extras import EXTRA_OF, remedy
from runtime.cores import usable_cores
from runtime.errors import FaceMeshError
from runtime.families.table import FAMILIES
from runtime.geometry.nme import box_size, point_nme
from runtime.models.shipped import SHIPPED_MODEL, shipped_model
from runtime.models.spec import load_spec
from runtime.storage.whole_files import file_sha256

if TYPE_CHECKING:
    from benchmarks.peers.whole_films import FilmPeer

MOST_FACES = 64  # of a picture
BLOCK = 10  # faces of a turn
SETTLE_S = 0.05  # OpenBLAS, for one, spins for 26 ms


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks peers``."""
    parser = subparsers.add_parser(
        "peers",
        help="latency beside other programs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    add(
        "--engine",
        type=Path,
        metavar="MODEL.onnx",
        help="default: the shipped model, in FP32 and as the runtime chooses",
    )
    faces_help = "how many, evenly spread over the data (default: 300)"
    add("--faces", type=positive_int, default=300, metavar="N", help=faces_help)
    add("--threads", type=positive_int, metavar="N", help="of every peer (default: the cores that may be used)")
    interval_help = "rest before every face, 33 as with a camera (default: 0)"
    add("--interval-ms", type=float, default=0.0, metavar="MS", help=interval_help)
    add("--landmarks-from", type=Path, metavar="MODEL", help=LANDMARKS_FROM_HELP)
    several_help = "with a network of coefficients: so many faces side by side in one picture (default: 1)"
    add("--faces-per-picture", type=whole_number(1, MOST_FACES), default=1, metavar="N", help=several_help)
    mb05_help = "3DDFA_V2's mb05_120x120.pth (default: models/ beside the data)"
    add("--mb05", type=Path, metavar="FILE.pth", help=mb05_help)
    mediapipe_help = "interpreter of an environment with mediapipe==0.10.21"
    add("--mediapipe-python", type=Path, metavar="PYTHON", help=mediapipe_help)
    film_help = "also measure whole frames of this film, detection or tracking included; may be repeated"
    add("--film", type=Path, action="append", default=[], metavar="FILE", help=film_help)
    add("--json", type=Path, metavar="FILE", help="write the table and where it comes from")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    from benchmarks.peers.thread_limit import limited_threads
    from benchmarks.peers.whole_films import measure_film

    check_writable(args.json)
    faces = load_faces(args.data, args.face_model, limit=args.faces)
    threads = args.threads or usable_cores()

    # Open every peer whose libraries are installed, and measure all.
    openers, absent = _openers(args, faces, threads)
    with ExitStack() as stack:
        peers = []
        for name, open_peer in openers.items():
            try:
                peers.append(stack.enter_context(closing(open_peer())))
            except ModuleNotFoundError as error:
                library = (error.name or "").split(".")[0]
                install = remedy(library) if library in EXTRA_OF else f"pip install {library}"
                absent.append(f"{name}: not measured, needs {error.name}: {install}")
        stack.enter_context(limited_threads(threads))  # of the libraries that are loaded by now
        results = measure_peers(peers, faces, args.interval_ms / 1000, args.faces_per_picture)
    groups = [summary(peer, seconds, nme, faces) for peer, (seconds, nme) in zip(peers, results, strict=True)]

    # Print and write.
    conditions = f"{threads} threads, {args.interval_ms:g} ms between faces, {args.faces_per_picture} in a picture"
    print(f"{len(faces)} faces of {args.data.name}, boxes of the labels, {conditions}")
    print(format_groups(groups))
    print("\n".join([*(_note(group, len(faces)) for group in groups), *absent]))
    with limited_threads(threads):
        films = [line for path in args.film for line in measure_film(path, _film_openers(args, faces, threads))]
    if films:
        print(format_films(films))
    if args.json:
        document = {
            **provenance(),
            "threads": threads,
            "interval_ms": args.interval_ms,
            "faces_per_picture": args.faces_per_picture,
            "engines": [{"file": path.name, "sha256": file_sha256(path)} for path in _engines(args)],
            "data": {"faces": len(faces), "sha256": faces.sha256},
            "peers": groups,
            "absent": absent,
            "films": films,
        }
        write_json(args.json, document)


Openers = dict[str, Callable[[], Peer]]


def _engines(args: argparse.Namespace) -> list[Path]:
    """Return the models of this runtime's rows."""
    return [args.engine] if args.engine else list(dict.fromkeys([SHIPPED_MODEL, shipped_model()]))


def _openers(args: argparse.Namespace, faces: FaceSet, threads: int) -> tuple[Openers, list[str]]:
    """Return functions that open the peers, and a line about each peer without its files.

    A function imports its peer's libraries when it is called.
    """
    if args.engine is not None and args.engine.suffix == ".onnx":
        spec = load_spec(args.engine)
        if FAMILIES[spec.family].has_face_model:
            return same_network_peers(*(args.engine, spec, faces, threads, args.landmarks_from), args.faces_per_picture)
    if args.faces_per_picture > 1:
        raise FaceMeshError("--faces-per-picture: for a network of coefficients alone; give it by --engine")
    weights = args.mb05 or args.data.parent / "models" / "mb05_120x120.pth"

    def this_runtime(engine: Path) -> Peer:
        from benchmarks.peers.this_runtime import runtime_peer

        return runtime_peer(engine, threads, landmarks_from=args.landmarks_from)

    def prnet() -> Peer:
        from benchmarks.peers.prnet import prnet_peer

        return prnet_peer(_engines(args)[0], threads)

    def mb05() -> Peer:
        from benchmarks.peers.mb05 import mb05_peer

        return mb05_peer(weights, faces.model, threads)

    def mediapipe() -> Peer:
        from benchmarks.peers.mediapipe_peer import MediaPipePeer

        return MediaPipePeer(args.mediapipe_python, threads)

    # Those that need nothing, and two that need a file.
    openers: Openers = {f"this runtime, {path.name}": partial(this_runtime, path) for path in _engines(args)}
    openers["PRNet's steps"] = prnet
    absent = []
    if args.mb05 or weights.exists():
        openers["3DDFA_V2 mb05"] = mb05
    else:
        absent.append("3DDFA_V2 mb05: not measured, give --mb05")
    if args.mediapipe_python:
        openers["MediaPipe Face Mesh"] = mediapipe
    else:
        absent.append("MediaPipe Face Mesh: not measured, give --mediapipe-python")
    return openers, absent


def _film_openers(args: argparse.Namespace, faces: FaceSet, threads: int) -> list[Callable[[], FilmPeer]]:
    """Return functions that open the programs for films whose files are there."""
    from benchmarks.peers.whole_films import Mb05Film, MediaPipeFilm, RuntimeFilm

    def mb05() -> FilmPeer:
        from benchmarks.peers.mb05 import mb05_peer

        return Mb05Film(mb05_peer(weights, faces.model, threads))

    engine = _engines(args)[-1]
    openers: list[Callable[[], FilmPeer]] = []
    openers += [partial(RuntimeFilm, engine, threads, tracked) for tracked in (False, True)]
    weights = args.mb05 or args.data.parent / "models" / "mb05_120x120.pth"
    if weights.exists():
        openers.append(mb05)
    if args.mediapipe_python:
        openers.append(partial(MediaPipeFilm, args.mediapipe_python, threads))
    return openers


def _note(group: dict[str, Any], faces: int) -> str:
    """Return one line on a peer: the parts that were run, and the faces that it did not find."""
    found = f"; found {group['faces']} of {faces} faces, the times are of those" if group["faces"] < faces else ""
    return f"{group['name']}: {group['note']}{found}"


def format_films(films: list[dict[str, Any]]) -> str:
    """Return the table of whole frames as fixed-width text."""
    lines = [("film", "whole frames by", "median ms", "mean ms", "p90 ms", "frames", "with a face")]
    for line in films:
        times = (f"{line[name]:.2f}" for name in ("median_ms", "mean_ms", "p90_ms"))
        lines.append((line["film"], line["name"], *times, str(line["frames"]), str(line["found"])))
    return text_table(lines, left=2)


def measure_peers(
    peers: list[Peer], faces: FaceSet, interval_s: float = 0.0, per_picture: int = 1
) -> list[tuple[NDArray[np.float64], NDArray[np.float64] | None]]:
    """Measure the peers by turns; returns seconds and NME of each.

    Seconds are (faces, stages), with NaN rows for faces that it did not find; the ``per_picture`` faces of a picture
    share theirs. NME is (faces, 2) in %, in 2D and in 3D, None for a peer without the 68 landmarks.
    """
    from runtime.console.progress import progress_bar

    # Time blocks of faces, in an order of the peers that rotates.
    pictures = -(-len(faces) // per_picture)
    seconds = [np.full((pictures, len(peer.stages)), math.nan) for peer in peers]
    landmarks: list[list[NDArray]] = [[] for _ in peers]
    blocks = range(0, pictures, BLOCK)
    for turn, start in enumerate(progress_bar(blocks, len(blocks), "block")):
        rows = range(start, min(start + BLOCK, pictures))
        block, shifts = zip(*(_picture(faces, row * per_picture, per_picture) for row in rows), strict=True)
        for number in ((turn + place) % len(peers) for place in range(len(peers))):
            time.sleep(SETTLE_S)
            for _ in range(2):
                peers[number].run(block[0])
            for row, face, shift in zip(rows, block, shifts, strict=True):
                time.sleep(interval_s)
                seconds[number][row], points = peers[number].run(face)
                if points is not None:
                    several = points.copy() if per_picture > 1 else points[None].copy()
                    several[..., :2] -= shift[:, None]
                    landmarks[number].extend(several)

    # Compare the landmarks with the labels.
    errors = [_errors(np.array(points[: len(faces)]), faces) if points else None for points in landmarks]
    by_face = [np.repeat(times, per_picture, axis=0)[: len(faces)] for times in seconds]
    return list(zip(by_face, errors, strict=True))


def _picture(faces: FaceSet, first: int, count: int) -> tuple[Face, NDArray[np.float32]]:
    """Return faces from row ``first`` on, side by side in one picture, and how far each is moved, (count, 2) px.

    After the last row comes the first one again.
    """
    rows = [row % len(faces) for row in range(first, first + count)]
    if count == 1:
        return Face(faces.images[rows[0]], faces.labels.box[rows[0]]), np.zeros((1, 2), np.float32)
    images = [faces.images[row] for row in rows]
    columns = math.ceil(math.sqrt(count))
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    picture = np.zeros((height * math.ceil(count / columns), width * columns, 3), np.uint8)
    places = [divmod(number, columns) for number in range(count)]
    for image, (down, right) in zip(images, places, strict=True):
        picture[down * height :, right * width :][: image.shape[0], : image.shape[1]] = image
    shift = np.array([(right * width, down * height) for down, right in places], np.float32)
    return Face(picture, faces.labels.box[rows] + np.tile(shift, 2)), shift


def _errors(points: NDArray[np.float32], faces: FaceSet) -> NDArray[np.float64]:
    """Return the NME in % of landmarks (N, 68, 2 or 3): (N, 2), in 2D and in 3D; NaN without depth."""
    sizes = box_size(faces.labels.box)
    flat = point_nme(points[:, :, :2], faces.labels.pts68[:, :, :2], sizes)
    deep = point_nme(points, faces.labels.pts68, sizes) if points.shape[2] == 3 else np.full(len(points), math.nan)
    return np.stack([flat, deep], axis=1)


def summary(
    peer: Peer, seconds: NDArray[np.float64], nme: NDArray[np.float64] | None, faces: FaceSet
) -> dict[str, Any]:
    """Summarise one peer for table and JSON; with a single stage there is no total beside it."""
    found = seconds[np.isfinite(seconds).all(axis=1)] * 1000
    columns = dict(zip(peer.stages, found.T, strict=True))
    if len(columns) > 1:
        columns["total"] = found.sum(axis=1)
    score, deep = (None, None) if nme is None else (summarise(column, faces.bins) for column in nme.T)
    return {
        "name": peer.name,
        "note": peer.note,
        "faces": len(found),
        "vertices": peer.vertices,
        "stages": {name: _statistics(milliseconds, peer.vertices) for name, milliseconds in columns.items()},
        "nme": None if score is None else {"mean": score.mean, "balanced": score.balanced, "mean_3d": deep.mean},
    }


def _statistics(milliseconds: NDArray[np.float64], vertices: int) -> dict[str, float]:
    if not len(milliseconds):
        return dict.fromkeys(("median_ms", "p90_ms", "vertices_per_ms"), math.nan)
    median = float(np.median(milliseconds))
    p90 = float(np.percentile(milliseconds, 90))
    return {"median_ms": median, "p90_ms": p90, "vertices_per_ms": vertices / median}


def format_groups(groups: list[dict[str, Any]]) -> str:
    """Return the table as fixed-width text: a line per stage, the peer's own figures on its last line."""
    head = ("peer", "stage", "median ms", "p90 ms", "vertices/ms", "vertices", "faces", "NME % mean", "balanced", "3D")
    lines = [head]
    for group in groups:
        nme = group["nme"]
        names = ("mean", "balanced", "mean_3d")
        scores = ("–",) * 3 if nme is None else tuple(two_digits(nme[name]) for name in names)
        *_, last = group["stages"]
        for i, (stage, figures) in enumerate(group["stages"].items()):
            name = group["name"] if i == 0 else ""
            times = (f"{figures['median_ms']:.3f}", f"{figures['p90_ms']:.3f}")
            own = (f"{group['vertices']:,}", str(group["faces"]), *scores) if stage == last else ("",) * 5
            lines.append((name, stage, *times, f"{figures['vertices_per_ms']:,.0f}", *own))
    return text_table(lines, left=2)
