"""``python -m benchmarks tracking``: tracked films beside the detector in every frame, and the numbers of people.

Films of five seconds are made from labelled photographs, all chance seeded: one face that is zoomed, panned, rolled,
turned (rendered), blurred or replaced by another one (cut); people of whom one is hidden for half a second
(occlusion), three who walk past each other (crossing), ten of whom three change places (ten). With --film further
films without labels are measured.

    visible     faces in frames, without those that are covered by more than 40 %
    missed      of them: no face found whose box overlaps theirs with an IoU of at least 0.4
    NME         mean distance of the 68 landmarks, in % of the face, where both ways found it
    detector    frames that the detector looked at, in %
    changes     of a person's number from one frame in which it was found to the next
    ms          processor time per frame with detection, and for crop, network and decoding of its faces; their ratio

Both ways run without smoothing's lag in the errors: the filters are off for NME and on for the times. One core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.accuracy.arguments import add_data_arguments
from benchmarks.accuracy.labelled_faces import load_faces
from benchmarks.films.made_films import FILMS, FPS, MadeFrame, TrueFace
from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from runtime.console.arguments import positive_int
from runtime.detection.yunet import YuNetDetector
from runtime.geometry.boxes import box_iou
from runtime.geometry.nme import box_size, point_nme
from runtime.inference.interface import Runner
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import shipped_model
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.frame_source import FrameSource
from runtime.tracking.options import Tracking
from runtime.types import FaceMesh, Frame, MeshTopology

SECONDS = 5.0
LEAST_IOU = 0.4
FIGURES = (
    *("frames", "visible", "missed", "missed_detected", "nme", "nme_detected", "detector", "changes", "tracks"),
    *("ms", "ms_faces", "ratio"),
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks tracking``."""
    parser = subparsers.add_parser(
        "tracking",
        help="films tracked and detected: faces missed, error, numbers of people, time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    add("--seeds", type=positive_int, default=3, metavar="N", help="films of every kind (default: 3)")
    only_help = f"some of {','.join(FILMS)} (default: all)"
    add("--only", type=_kinds, default=tuple(FILMS), metavar="KIND,...", help=only_help)
    add("--film", type=Path, action="append", default=[], metavar="FILE", help="another film; may be repeated")
    add("--model", type=Path, metavar="MODEL", help=".onnx or .engine (default: the shipped model)")
    add("--json", type=Path, metavar="FILE", help="write the table and where it comes from")
    parser.set_defaults(func=run_command)


def _kinds(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in FILMS]:
        raise argparse.ArgumentTypeError(f"no kind {unknown[0]!r}, there are {','.join(FILMS)}")
    return names


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    check_writable(args.json)
    cv2.setNumThreads(1)
    faces = load_faces(args.data, args.face_model)
    rows = []
    with open_runner(args.model, threads=1) as runner:
        topology = faces.topology_for(runner.spec)
        for name in args.only:
            found = []
            for seed in range(args.seeds):
                film = FILMS[name](faces, np.random.default_rng(seed), round(SECONDS * FPS))
                found.append(measure_film(runner, topology, film))
            rows.append({"film": name, **_summary(found)})
        for path in args.film:
            with FrameSource(path) as source:
                found = [measure_film(runner, topology, ((frame, []) for frame in source))]
            rows.append({"film": path.name, **_summary(found)})
    print(format_rows(rows))
    if args.json:
        subject = {"model": (args.model or shipped_model()).name, "data": args.data.name, "sha256": faces.sha256}
        write_json(args.json, {**provenance(), "kind": "tracking", **subject, "seeds": args.seeds, "table": rows})


def measure_film(runner: Runner, topology: MeshTopology | None, film: Iterable[MadeFrame]) -> dict[str, float]:
    """Return the figures of one film.

    A frame goes through three pipelines: tracked without filters, tracked with them (for the time), and detected.
    """
    tracked = FaceMeshPipeline(runner, YuNetDetector(), topology, tracking=Tracking(smoothing=None))
    timed = FaceMeshPipeline(runner, YuNetDetector(), topology, tracking=Tracking())
    detected = FaceMeshPipeline(runner, YuNetDetector(), topology)
    mesher = runner.mesher(tracked.family)
    figures = dict.fromkeys(FIGURES, 0.0)
    errors: list[tuple[float, float]] = []
    numbers: dict[int, int | None] = {}
    tracks: set[int | None] = set()
    faces: list[FaceMesh] = []
    for frame, truth in film:

        def track(frame: Frame = frame) -> None:
            faces[:] = timed(frame)

        def mesh(frame: Frame = frame) -> None:
            mesher.again(frame.image, [tracked.family.crop_matrix(face.box_xyxy) for face in faces])

        # The second one of the two finds the picture in the cache, so they take turns.
        for step in (track, mesh) if frame.index % 2 == 0 else (mesh, track):
            start = time.thread_time()
            step()
            figures["ms" if step is track else "ms_faces"] += time.thread_time() - start

        figures["frames"] += 1
        ways = tracked(frame), detected(frame)
        tracks |= {face.track_id for face in ways[0]}
        visible = [face for face in truth if face.visible]
        pairs = [pair_up(visible, way) for way in ways]
        for person, true in enumerate(visible):
            figures["visible"] += 1
            mine, other = (found.get(person) for found in pairs)
            figures["missed"] += mine is None
            figures["missed_detected"] += other is None
            if mine is not None:
                figures["changes"] += numbers.get(true.person, mine.track_id) != mine.track_id
                numbers[true.person] = mine.track_id
            if mine is not None and other is not None:
                errors.append((_nme(mine, true), _nme(other, true)))
    figures["nme"], figures["nme_detected"] = np.mean(errors, axis=0) if errors else (np.nan, np.nan)
    figures["detector"] = 100 * timed.detections / max(1, figures["frames"])
    figures["tracks"] = len(tracks)
    return figures


def pair_up(truth: Sequence[TrueFace], faces: Sequence[FaceMesh]) -> dict[int, FaceMesh]:
    """Return the face of every true one, by its place in ``truth``: the pairs with the largest overlap first."""
    boxes = np.array([face.box_xyxy for face in faces]).reshape(-1, 4)
    overlaps = [
        (float(iou), row, column)
        for row, true in enumerate(truth)
        for column, iou in enumerate(box_iou(true.box_xyxy, boxes))
        if iou >= LEAST_IOU
    ]
    found: dict[int, FaceMesh] = {}
    taken: set[int] = set()
    for _, row, column in sorted(overlaps, reverse=True):
        if row not in found and column not in taken:
            found[row] = faces[column]
            taken.add(column)
    return found


def format_rows(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table as fixed-width text."""
    head = ("film", "frames", "visible", "missed", "detected", "NME %", "detected", "detector %", "changes", "tracks")
    lines = [(*head, "ms", "faces ms", "ratio")]
    for row in rows:
        counts = [f"{row[key]:.0f}" for key in FIGURES[:4]]
        shares = [two_digits(row[key]) for key in ("nme", "nme_detected", "detector")]
        people = [f"{row[key]:.0f}" for key in ("changes", "tracks")]
        lines.append((row["film"], *counts, *shares, *people, *(two_digits(row[key]) for key in FIGURES[-3:])))
    return text_table(lines, left=1)


def _nme(face: FaceMesh, true: TrueFace) -> float:
    return float(point_nme(face.landmarks[None, :, :2], true.points[None], box_size(true.box_xyxy[None]))[0])


def _summary(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Add up the counts of several films and take the means of the rest."""
    total = {key: float(sum(figures[key] for figures in found)) for key in FIGURES}
    for key in ("nme", "nme_detected", "detector"):
        total[key] /= len(found)
    for key in ("ms", "ms_faces"):
        total[key] *= 1000 / max(1.0, total["frames"])
    total["ratio"] = total["ms"] / total["ms_faces"] if total["ms_faces"] else float("nan")
    return total
