"""``python -m training learn-offsets``: the offsets from hand-marked points to labels, and the spread of coefficients.

Pairs: photographs that a data set has twice, with labels (rows of --label-source, names ``…PHOTO_0.jpg``) and with
hand points (rows of --hand-source, names ``…PHOTO.jpg``), as 300W-LP's unturned views and AFW. The two pictures are
registered (ECC, Evangelidis & Psarakis 2008) with an affine map, the points are carried over, and the mean offset by
|yaw| is taken in the face's own axes, left and right alike. --hand takes points of the same pictures instead, by
name: so a second annotation of labelled pictures can be brought to the definition of their labels, with the prior of
--base. --fits adds AFLW's 21 points: data that fit-labels wrote and that have ``hand21`` too. Rows for validation never
take part.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.families.face_model import load_face_model
from training.data.labels import FaceLabels, load_labels, read_images
from training.labelling.definition import load_definition, save_definition, stock_definition
from training.labelling.definition_offsets import DefinitionOffsets, learn_offsets
from training.labelling.face_fits import fit_of_labels, hand_points
from training.labelling.hand_labels import read_hand_labels
from training.labelling.landmark_fit import observed_vertices
from training.labelling.point_model import CONTOUR, CoefficientPrior, PointModel, make_point_model

MIN_CORRELATION = 0.97  # of registered pictures
SHRINKAGE = 0.3  # share of the diagonal in the learned covariance


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """``python -m training learn-offsets``."""
    text = __doc__.partition("\n\n")
    parser = subparsers.add_parser(
        "learn-offsets", help="learn offsets of hand points for fit-labels", description=text[0], epilog=text[2]
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="STEM", help="labels with pairs, in the layout of train.npz"
    )
    parser.add_argument(
        "--face-model", type=Path, help="npz of the face model; default: face_model.npz beside the data"
    )
    parser.add_argument("--label-source", default="300wlp_afw", help="rows with labels (default: %(default)s)")
    parser.add_argument("--hand-source", default="afw", help="rows with hand points (default: %(default)s)")
    parser.add_argument(
        "--hand", type=Path, metavar="STEM", help="points of pictures of --data, as fit-labels takes them, no pairs"
    )
    parser.add_argument(
        "--fits", type=Path, metavar="STEM", help="fits with hand21, to learn the offsets of the 21 points"
    )
    parser.add_argument(
        "--base",
        type=Path,
        metavar="FILE.npz",
        help="offsets to replace those of --hand or --fits in, instead of learning from pairs",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz", help="the offsets to write")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Learn and write; prints the numbers of pairs and the residuals before and after."""
    face_model_path = args.face_model or args.data.parent / "face_model.npz"
    face_model = load_face_model(face_model_path)
    if args.base:
        prior, offsets = load_definition(args.base, face_model)
    elif args.hand:
        raise FaceMeshError("learn-offsets: --hand has no prior of its own; give offsets learned from pairs as --base")
    else:
        labels = load_labels(args.data, face_model)
        views, hand68 = carried_points(args.data, *paired_rows(labels, args.label_source, args.hand_source))
        prior = learn_prior(views, stock_definition(face_model_path, face_model)[0])
        offsets = _offsets_of(views, hand_points(hand68, None), make_point_model(face_model, prior))
    if args.hand:
        learned = _offsets_of(
            *same_pictures(load_labels(args.data, face_model), args.hand), make_point_model(face_model, prior)
        )
        offsets = replace(offsets, table=np.concatenate([learned.table[:, :68], offsets.table[:, 68:]], axis=1))
    if args.fits:
        offsets = with_21_points(
            offsets, load_labels(args.fits, face_model), make_point_model(face_model, prior), args.fits
        )
    save_definition(args.output, prior, offsets)


def paired_rows(labels: FaceLabels, label_source: str, hand_source: str) -> tuple[FaceLabels, FaceLabels]:
    """Return the labelled views and, row by row, the hand-marked faces of the same photographs; training rows alone."""
    if labels.hand68 is None:
        raise FaceMeshError("learn-offsets: the data have no hand68; give labels in the layout of train.npz")
    stems = np.array([_face_of(name) for name in labels.names.tolist()])
    views = labels.select((labels.source == label_source) & ~labels.is_val & np.char.endswith(labels.names, "_0.jpg"))
    row_of = {stems[row]: row for row in np.flatnonzero((labels.source == hand_source) & ~labels.is_val)}
    faces = [_face_of(name) for name in views.names.tolist()]
    found = np.array([face in row_of for face in faces], bool)
    if found.sum() < 2:
        raise FaceMeshError(
            f"learn-offsets: {label_source} and {hand_source} share {found.sum()} photographs; two at least are needed"
        )
    return views.select(found), labels.select(
        np.array([row_of[face] for face, is_found in zip(faces, found, strict=True) if is_found])
    )


def same_pictures(labels: FaceLabels, path: Path) -> tuple[FaceLabels, NDArray[np.float64]]:
    """Return the labels of the pictures that ``path`` has points of, and the points (N, 89, 2); training rows alone."""
    hand = read_hand_labels(path, {})
    row_of = {name: row for row, name in enumerate(labels.names.tolist()) if not labels.is_val[row]}
    found = np.array([name in row_of for name in hand.names.tolist()]) & ~hand.is_val & (hand.visible68 > 0).any(axis=1)
    if found.sum() < 2:
        raise FaceMeshError(f"{path}: shares {found.sum()} pictures with the labels; two at least are needed")
    hand = hand.select(found)
    placed = np.where(hand.visible68[..., None] > 0, hand.hand68, np.nan)
    print(f"{found.sum()} pictures have labels and hand points")
    return labels.select(np.array([row_of[name] for name in hand.names.tolist()])), hand_points(placed, None)


def carried_points(path: Path, views: FaceLabels, marked: FaceLabels) -> tuple[FaceLabels, NDArray[np.float64]]:
    """Return the views whose picture could be registered and the hand points (N, 68, 2) in px of them."""
    view_images, marked_images = read_images(path, views), read_images(path, marked)
    maps = [
        _register(view_images[row], marked_images[row], views.pts68[row], marked.hand68[row])
        for row in range(len(views))
    ]
    good = np.array([found is not None for found in maps], bool)
    print(f"{good.sum()} of {len(good)} pairs registered")
    if good.sum() < 2:
        raise FaceMeshError(
            f"{path}: fewer than two pairs of pictures show the same photograph; are names and pictures right?"
        )
    matrix = np.stack([found for found in maps if found is not None])
    return views.select(good), marked.hand68[good] @ matrix[:, :, :2].transpose(0, 2, 1) + matrix[:, None, :, 2]


def learn_prior(views: FaceLabels, stock: CoefficientPrior) -> CoefficientPrior:
    """Return mean and shrunk covariance of the coefficients; ``stock`` sets the units of the shrinkage."""
    latent = stock.latent(views.coefficients.astype(np.float64))
    covariance = np.cov(latent.T)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance)) + 1e-4 * np.eye(len(covariance))
    return CoefficientPrior(stock.coefficients(latent.mean(axis=0)), stock.factor @ np.linalg.cholesky(shrunk))


def with_21_points(offsets: DefinitionOffsets, fits: FaceLabels, model: PointModel, path: Path) -> DefinitionOffsets:
    """Return the offsets with the rows of the 21 points learned from fits to the 68."""
    if fits.hand21 is None or fits.hand68 is None:
        raise FaceMeshError(f"{path}: needs hand68 and hand21; give fits of faces that have both")
    fits = fits.select(~fits.is_val & np.isfinite(fits.hand21).any(axis=(1, 2)) & (fits.visible68 > 0).any(axis=1))
    learned = _offsets_of(fits, hand_points(None, fits.hand21), model)
    return replace(offsets, table=np.concatenate([offsets.table[:, :68], learned.table[:, 68:]], axis=1))


def _offsets_of(labels: FaceLabels, hand: NDArray, model: PointModel) -> DefinitionOffsets:
    """Return the offsets from ``hand`` (N, 89, 2) to the labels' points (contour: outline); print the gain."""
    fit = fit_of_labels(labels, model)
    target = observed_vertices(model, fit)[0][..., :2]
    offsets = learn_offsets(target, hand, fit.yaw, fit.roll, fit.scale)
    for name, points in (("before", hand), ("after", offsets.apply(hand, fit.yaw, fit.roll, fit.scale))):
        error = 100 * np.linalg.norm(points - target, axis=2) / fit.scale[:, None]
        columns = {"contour": error[:, :CONTOUR], "inner": error[:, CONTOUR:68], "21 points": error[:, 68:]}
        print(
            f"{name}: "
            + ", ".join(f"{key} {np.nanmean(part):.2f} %" for key, part in columns.items() if np.isfinite(part).any())
        )
    return offsets


def _register(
    view: NDArray[np.uint8], marked: NDArray[np.uint8], view_points: NDArray, points: NDArray
) -> NDArray[np.float64] | None:
    """Return the affine map (2, 3) from pixels of ``marked`` to those of ``view``, None where the pictures disagree."""
    start, _ = cv2.estimateAffinePartial2D(
        view_points[CONTOUR:, :2].astype(np.float32), points[CONTOUR:].astype(np.float32)
    )
    if start is None:
        return None
    mask = np.zeros(marked.shape[:2], np.uint8)
    (x0, y0), (x1, y1) = np.maximum(points.min(axis=0), 0).astype(int), points.max(axis=0).astype(int) + 1
    mask[y0:y1, x0:x1] = 255
    grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (view, marked)]
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 80, 1e-6)
    try:
        correlation, matrix = cv2.findTransformECC(*grey, start.astype(np.float32), cv2.MOTION_AFFINE, stop, mask, 5)
    except cv2.error:  # pictures without common content
        return None
    return cv2.invertAffineTransform(matrix).astype(np.float64) if correlation >= MIN_CORRELATION else None


def _face_of(name: str) -> str:
    """Return photograph and face: ``300wlp_afw/AFW_105_1_0.jpg`` and ``afw/105_1.jpg`` -> ``105_1``."""
    stem = Path(name).stem.removeprefix("AFW_")
    return re.sub(r"^(\d+_\d+)_\d+$", r"\1", stem)
