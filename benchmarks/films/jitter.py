"""``python -m benchmarks jitter``: how calm points are at rest, and how late in motion, beside two other programs.

Scenes are made from labelled photographs of frontal faces, 222 px large, with noise of 3 grey levels, 30 frames a
second: a still face; a face that slides to and fro by half its size per second; a head that turns to and fro by 30°
at 60° a second, rendered; four blinks of a quarter of a second.

    jitter    RMS distance of the points from their means over time, still face, in % of the face
    lag       frames that points are late in motion: the delay of the true motion that explains them best
    rest      RMS distance from that motion, in % of the face
    closing   how far the eyes close in the mean blink, in % of their opening; the picture closes them by 100

The face is sqrt(width × height) of the box of the 68 landmarks; MediaPipe's points are its own 468. Methods: the
detector in every frame; tracked, unfiltered and as the runtime filters it; 3DDFA_V2 (mb05, its own tracking) without
and with the averaging of its demo, and that averaging on our points; MediaPipe Face Mesh in tracking. The curves are
those of other settings of our filter; "at equal lag" is their least jitter at the lag of each peer in the turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.arguments import add_data_arguments
from benchmarks.accuracy.labelled_faces import FaceSet, load_faces
from benchmarks.films import followers
from benchmarks.films.measures import closing_seen, jitter, lag_and_rest, openings
from benchmarks.films.scenes import Scene, make_scenes
from benchmarks.records.measured_faces import Face
from benchmarks.records.provenance import check_writable, provenance, text_table, two_digits, write_json
from runtime.console.arguments import positive_int, whole_number
from runtime.detection.yunet import YuNetDetector
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import shipped_model
from runtime.pipeline import FaceMeshPipeline
from runtime.tracking.options import OneEuro, Smoothing, Tracking

MOST_SEED = 2**32 - 1
FRONTAL_DEG = 12.0
DEFAULT = "tracked, smoothed"
UNFILTERED = "tracked, crop smoothed"
FIGURES = ("jitter", "lag", "slide_lag", "slide_rest", "turn_lag", "turn_rest", "closing")
Scores = dict[str, float]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks jitter``."""
    parser = subparsers.add_parser(
        "jitter",
        help="jitter at rest and lag in motion, beside 3DDFA_V2 and MediaPipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    add("--faces", type=positive_int, default=5, metavar="N", help="photographs (default: 5)")
    add("--seed", type=whole_number(0, MOST_SEED), default=0, help="of the choice and the noise (default: 0)")
    add("--model", type=Path, metavar="MODEL", help=".onnx or .engine (default: the shipped model)")
    add("--mb05", type=Path, metavar="FILE.pth", help="3DDFA_V2's mb05_120x120.pth (default: models/ beside the data)")
    mediapipe_help = "interpreter of an environment with mediapipe==0.10.21"
    add("--mediapipe-python", type=Path, metavar="PYTHON", help=mediapipe_help)
    add("-o", "--output", type=Path, metavar="STEM", help="write STEM.json with the tables and STEM.png with charts")
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    check_writable(args.output)
    if args.output:
        from benchmarks.films.jitter_chart import draw_jitter  # before the measurement, as matplotlib may be missing
    faces = load_faces(args.data, args.face_model)
    weights = args.mb05 or args.data.parent / "models" / "mb05_120x120.pth"
    result = measure_jitter(faces, args.faces, args.seed, args.model, weights, args.mediapipe_python)
    print(format_rows(result["methods"]))
    for row in result["equal_lag"]:
        lag, ours, theirs = map(two_digits, (row["lag"], row["our_jitter"], row["jitter"]))
        print(f"at the lag of {row['method']}, {lag} frames: our jitter {ours} %, theirs {theirs} %")
    print("\n".join(result["absent"]))
    if args.output:
        draw_jitter(result, Path(f"{args.output}.png"))
        subject = {"model": (args.model or shipped_model()).name, "data": args.data.name, "sha256": faces.sha256}
        run = {"kind": "jitter", **subject, "faces": args.faces, "seed": args.seed}
        write_json(Path(f"{args.output}.json"), {**provenance(), **run, **result})


def measure_jitter(
    faces: FaceSet, count: int, seed: int, model: Path | None, mb05: Path, mediapipe: Path | None
) -> dict[str, Any]:
    """Return the rows of the methods, those of our curve and of equal lag, and a blink of every method over time."""
    from runtime.console.progress import progress_bar

    generator = np.random.default_rng(seed)
    frontal = np.flatnonzero(np.abs(faces.labels.yaw_deg) < FRONTAL_DEG)
    rows = generator.permutation(frontal)[:count]
    absent: list[str] = []
    scores: dict[str, list[Scores]] = {}
    curve: dict[OneEuro, list[Scores]] = {settings: [] for settings in followers.settings_of_curve()}
    blinks: dict[str, list[NDArray]] = {}
    with ExitStack() as stack:
        methods = _methods(stack, faces, model, mb05, mediapipe, absent)
        for row in progress_bar(rows, len(rows), "face"):
            scenes = list(make_scenes(faces, int(row), seed))
            points = {name: [follow(scene) for scene in scenes] for name, follow in methods.items()}
            raw = points[UNFILTERED]
            points[DEFAULT] = _smoothed(raw, Smoothing().points, scenes)
            points["tracked, 3DDFA_V2's averaging"] = [followers.averaged(film) for film in points["tracked"]]
            if "3DDFA_V2" in points:
                points["3DDFA_V2, averaged"] = [followers.averaged(film) for film in points["3DDFA_V2"]]
            for name, films in points.items():
                scores.setdefault(name, []).append(score(films, scenes))
                blinks.setdefault(name, []).append(openings(films[3], _eyes(films[3])))
            for settings, found in curve.items():
                found.append(score(_smoothed(raw, settings, scenes), scenes))
        closing = scenes[3].signals[:, 0]
    table = [{"method": name, **_mean(found)} for name, found in scores.items()]
    curves = [{**vars(settings), **_mean(found)} for settings, found in curve.items()]
    blink = {name: np.mean(each, axis=0).tolist() for name, each in blinks.items()}
    return {
        "methods": table,
        "curves": curves,
        "equal_lag": equal_lag(table, curves),
        "blink": {"closing": closing.tolist(), **blink},
        "absent": absent,
    }


def score(films: Sequence[NDArray], scenes: Sequence[Scene]) -> Scores:
    """Return the figures of one method from its points (T, N, 2 or 3) in the four scenes."""
    still, slide, turn, blink = (film[..., :2].astype(np.float64) for film in films)
    slide_lag, slide_rest = lag_and_rest(slide, scenes[1].signals, scenes[1].size)
    turn_lag, turn_rest = lag_and_rest(turn, scenes[2].signals, scenes[2].size)
    closing = closing_seen(openings(blink, _eyes(blink)), scenes[3].signals[:, 0])
    lag = (slide_lag + turn_lag) / 2
    figures = jitter(still, scenes[0].size), lag, slide_lag, slide_rest, turn_lag, turn_rest, closing
    return dict(zip(FIGURES, figures, strict=True))


def equal_lag(table: Sequence[Scores], curves: Sequence[Scores]) -> list[dict[str, Any]]:
    """Return for every peer the least jitter of our curves at its lag or below; NaN if none is as quick.

    The filter that is off counts as one of the settings.
    """
    settings = [*curves, *(row for row in table if row["method"] == UNFILTERED)]
    rows = []
    for row in table:
        if not row["method"].startswith(("3DDFA_V2", "MediaPipe")):
            continue
        fitting = [point["jitter"] for point in settings if point["lag"] <= row["lag"]]
        ours = min(fitting, default=float("nan"))
        rows.append({key: row[key] for key in ("method", "lag", "jitter")} | {"our_jitter": ours})
    return rows


def format_rows(table: Sequence[dict[str, Any]]) -> str:
    """Return the table as fixed-width text."""
    head = ("method", "jitter %", "lag", "slide lag", "rest %", "turn lag", "rest %", "closing %")
    lines = [(row["method"], *(two_digits(row[figure]) for figure in FIGURES)) for row in table]
    return text_table([head, *lines], left=1)


def _methods(
    stack: ExitStack, faces: FaceSet, model: Path | None, mb05: Path, mediapipe: Path | None, absent: list[str]
) -> dict[str, Callable[[Scene], NDArray]]:
    """Return functions from a scene to points; what cannot be measured gets a line in ``absent``."""
    runner = stack.enter_context(open_runner(model, threads=1))

    def ours(tracking: Tracking | None) -> Callable[[Scene], NDArray]:
        topology = faces.topology_for(runner.spec)
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), topology, dense=False, tracking=tracking)
        return lambda scene: followers.pipeline_points(pipeline, scene)

    methods = {
        "detected in every frame": ours(None),
        "tracked": ours(Tracking(max_faces=1, smoothing=None)),
        UNFILTERED: ours(Tracking(max_faces=1, smoothing=Smoothing(points=followers.PASSING))),
    }
    if mb05.exists():
        from benchmarks.peers.mb05 import mb05_peer

        peer = mb05_peer(mb05, faces.model, threads=1)
        stack.callback(peer.close)

        def run(face: Face) -> NDArray[np.float32]:
            return peer.run(face)[1]

        methods["3DDFA_V2"] = lambda scene: followers.mb05_points(run, scene)
    else:
        absent.append("3DDFA_V2: not measured, give --mb05")
    if mediapipe is not None:
        films = followers.MediaPipeFilms(mediapipe)
        stack.callback(films.close)
        methods[f"MediaPipe {films.version}"] = films.points
    else:
        absent.append("MediaPipe Face Mesh: not measured, give --mediapipe-python")
    return methods


def _smoothed(films: Sequence[NDArray], settings: OneEuro, scenes: Sequence[Scene]) -> list[NDArray]:
    return [followers.filtered(film, settings, scene.size) for film, scene in zip(films, scenes, strict=True)]


def _eyes(points: NDArray) -> tuple[tuple[int, ...], ...]:
    return followers.MEDIAPIPE_EYES if points.shape[1] == followers.MEDIAPIPE_POINTS else followers.OUR_EYES


def _mean(found: Sequence[Scores]) -> Scores:
    return {figure: float(np.mean([scores[figure] for scores in found])) for figure in FIGURES}
