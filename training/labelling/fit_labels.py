"""``python -m training fit-labels``: from 2D points (68, or AFLW's 21) to coefficients and pose.

Reads and writes the layout of ``train.npz``.

The fit is maximum a posteriori, by Gauss-Newton with Huber's weights (`landmark_fit`); contour points mark the
visible outline (``--contour vertices``: the landmarks themselves). ``--offsets`` names what ``learn-offsets`` wrote:
how the hand's points differ from the vertices of the labels, and how coefficients are spread. Without it nothing is
moved, and the spread is that of the face model's file. Where the data have no ``visible68``, contour points that the
fitted pose turns away get visibility 0. Faces with a bad fit are left out, counted by reason and listed in
STEM_dropped.csv. There is no chance in the fit; ``--seed`` is for the noise of ``--check``: that hides the labels of
a source's rows, fits their visible landmarks and compares dense vertices.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import FaceModel, load_face_model
from runtime.storage.picture_tar import beside
from training.data.labels import load_labels
from training.labelling.check import YAW_BINS_DEG, check_fit
from training.labelling.definition import load_definition, stock_definition
from training.labelling.definition_offsets import DefinitionOffsets
from training.labelling.face_fits import fit_of_labels, hand_points, label_arrays
from training.labelling.hand_labels import HandLabels, read_hand_labels
from training.labelling.landmark_fit import FaceFit, FitSettings, fit_points, observed_vertices
from training.labelling.point_model import CONTOUR, PointModel, make_point_model
from training.labelling.visibility import contour_on_outline
from training.labelling.write_labels import write_labels

MIN_POINTS = 6
MAX_POINT = 15.0  # % of the box, one inner point
MAX_YAW_DEG = 100.0
MAX_LATENT = 2.5  # root mean square of the latent numbers; faces have about 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m training fit-labels``."""
    text = __doc__.partition("\n\n")
    parser = subparsers.add_parser("fit-labels", help="fit faces to 2D points", description=text[0], epilog=text[2])
    add = parser.add_argument

    # Files.
    add("--data", type=Path, required=True, metavar="STEM", help="npz (names, size, hand68 [visible68] or hand21), tar")
    add("--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data")
    add("--offsets", type=Path, metavar="FILE.npz", help="made by learn-offsets; default: none, the model's own prior")
    add("--start", type=Path, metavar="STEM", help="labels of the same pictures; the fit starts there and stays near")
    add("-o", "--output", type=Path, metavar="STEM", help="where to write STEM.npz, STEM.tar and STEM_dropped.csv")

    # The points and the fit; defaults are those of `FitSettings`.
    shown = "(default: %(default)s)"
    add(
        "--shift", type=_shift, action="append", default=[], metavar="SOURCE=X,Y", help="px to add to a source's points"
    )
    add("--noise", type=_percent, default=1.5, help=f"standard deviation of a point, %% of the face {shown}")
    add("--contour", choices=("outline", "vertices"), default="outline", help=f"what contour points mark {shown}")
    add("--max-residual", type=_percent, default=5.0, help=f"mean over inner points, %% of the box {shown}")

    # Judgement.
    add("--check", metavar="SOURCE", help="judge the fit on labelled rows of a source instead; writes nothing")
    add("--seed", type=int, default=0, help=f"of the noise of --check {shown}")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Fit and write, or judge with ``--check``."""
    face_model_path = args.face_model or args.data.parent / "face_model.npz"
    face_model = load_face_model(face_model_path)
    prior, offsets = (
        load_definition(args.offsets, face_model) if args.offsets else stock_definition(face_model_path, face_model)
    )
    model = make_point_model(face_model, prior)
    settings = FitSettings(noise=args.noise / 100, outline=args.contour == "outline")
    if args.check:
        check_fit(load_labels(args.data, face_model), args.check, face_model, model, settings, args.seed)
        return
    if args.output is None:
        raise FaceMeshError("fit-labels: nowhere to write; give -o STEM, or --check SOURCE to judge the fit")
    if beside(args.output, ".npz").resolve() == beside(args.data, ".npz").resolve():
        raise FaceMeshError(f"{args.output}: these are the data themselves; give another stem to write to")

    hand = read_hand_labels(args.data, dict(args.shift))
    start = _matching_start(args.start, hand, face_model, model) if args.start else None
    fit, residual = fit_hand_labels(hand, model, offsets, settings, start)
    arrays = label_arrays(fit, model, face_model) | {"fit_nme": _mean_residual(residual).astype(np.float32)}
    if not hand.visibility_given:
        hand = replace(hand, visible68=_without_far_side(hand.visible68, contour_on_outline(model, fit)))
    reasons = drop_reasons(fit, residual, args.max_residual)
    write_labels(args.output, args.data, hand, arrays, reasons)
    _print_report(arrays, reasons)


def fit_hand_labels(
    hand: HandLabels,
    model: PointModel,
    offsets: DefinitionOffsets,
    settings: FitSettings,
    start: FaceFit | None = None,
) -> tuple[FaceFit, NDArray[np.float64]]:
    """Return the fits and the residuals (N, 89) in % of the box.

    NaN at points of weight 0, and everywhere for faces with fewer than 6 points.
    """
    points, weights = hand_points(hand.hand68, hand.hand21), hand.weights()
    enough = (weights > 0).sum(axis=1) >= MIN_POINTS
    points = np.where(
        enough[:, None, None], points, model.mean[:, :2]
    )  # a stand-in, so that the other faces can be fitted with it
    fit = fit_points(model, points, np.where(enough[:, None], weights, 1), offsets, settings, start)

    seen, _ = observed_vertices(model, fit, settings.outline)
    distance = np.linalg.norm(offsets.apply(points, fit.yaw, fit.roll, fit.scale) - seen[..., :2], axis=2)
    landmarks = fit.project(model.points(fit.latent))[:, :68, :2]
    side = np.sqrt((landmarks.max(axis=1) - landmarks.min(axis=1)).prod(axis=1))
    return fit, np.where((weights > 0) & enough[:, None], 100 * distance / side[:, None], np.nan)


def drop_reasons(fit: FaceFit, residual: NDArray, max_residual: float) -> NDArray[np.str_]:
    """Return (N,) the reason to leave a face out, empty where the fit is good; ``residual`` (N, 89) in % of the box."""
    tests = {
        f"fewer than {MIN_POINTS} points": ~np.isfinite(residual).any(axis=1),
        f"mean residual of {max_residual:g} % or more": ~(_mean_residual(residual) < max_residual),
        f"a point {MAX_POINT:g} % off or more": (residual[:, CONTOUR:] >= MAX_POINT).any(axis=1),
        f"yaw beyond {MAX_YAW_DEG:g} degrees": np.abs(np.rad2deg(fit.yaw)) > MAX_YAW_DEG,
        "an unlikely face": np.sqrt((fit.latent**2).mean(axis=1)) > MAX_LATENT,
    }
    reasons = np.full(len(residual), "", dtype=f"<U{max(map(len, tests))}")
    for reason, failed in reversed(tests.items()):
        reasons[failed] = reason
    return reasons


def _mean_residual(residual: NDArray) -> NDArray[np.float64]:
    """Return (N,) means over the inner points, NaN where there is none."""
    inner = residual[:, CONTOUR:]
    placed = np.isfinite(inner)
    return np.where(
        placed.any(axis=1), np.where(placed, inner, 0).sum(axis=1) / np.maximum(1, placed.sum(axis=1)), np.nan
    )


def _without_far_side(visible68: NDArray[np.uint8], on_outline: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return (N, 68) with 0 at the contour points that are not ``on_outline`` (N, 17): they mark the cheek."""
    visible68 = visible68.copy()
    visible68[:, :CONTOUR][~on_outline] = 0
    return visible68


def _matching_start(path: Path, hand: HandLabels, face_model: FaceModel, model: PointModel) -> FaceFit:
    """Return the fits of the rows of ``path`` that name the same pictures."""
    labels = load_labels(path, face_model)
    row_of = {name: row for row, name in enumerate(labels.names.tolist())}
    if missing := [name for name in hand.names.tolist() if name not in row_of]:
        raise FaceMeshError(
            f"{path}: lacks {len(missing)} of the {len(hand)} pictures, first {missing[0]}; leave --start out"
        )
    rows = np.array([row_of[name] for name in hand.names.tolist()])
    return fit_of_labels(labels.select(rows), model)


def _print_report(arrays: dict[str, NDArray], reasons: NDArray) -> None:
    """Print counts, and the residual of the inner points by yaw."""
    kept = reasons == ""
    print(f"{kept.sum()} of {len(kept)} faces fitted; left out: {(~kept).sum()}")
    for reason, count in Counter(reasons[~kept].tolist()).most_common():
        print(f"  {count:>6}  {reason}")
    yaw = np.abs(arrays["yaw_deg"])
    for low, high in YAW_BINS_DEG:
        rows = kept & (yaw >= low) & (yaw < high)
        if rows.any():
            print(
                f"yaw {low:>2}-{high:<3} {rows.sum():>6} faces, "
                f"residual of inner points {arrays['fit_nme'][rows].mean():.2f} % of the box"
            )


def _shift(text: str) -> tuple[str, tuple[float, float]]:
    """``SOURCE=X,Y`` -> name and px."""
    try:
        source, _, numbers = text.partition("=")
        x, y = map(float, numbers.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SOURCE=X,Y, as in afw=-0.84,0") from None
    return source, (x, y)


def _percent(text: str) -> float:
    """Positive finite number."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 100 (%)")
    return value
