"""Opening of the eyes, read from the picture: the mesh's eyelids hardly move, so it cannot tell a closed eye."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.models.shipped import EYE_OPENING
from runtime.storage.npz_files import read_npz
from runtime.types import FaceMesh

PATCH_WH = (32, 24)  # px of the upright patch round an eye, the outer corner on the left
PATCH_WIDTH = 0.45  # of the distance between the outer corners of both eyes, which turning the head does not change
OUTER_CORNERS = (36, 45)  # landmarks; the person's right eye first
CORNERS = ((36, 39), (42, 45))
GRID_WH = (16, 12)  # cells of the patch in which features are averaged


def eye_openings(face: FaceMesh, image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the opening of the person's left and right eye in the picture (H, W, 3) uint8 BGR.

    It is the mean gap between the lids over the width of an eye, from 0 for a closed eye to about 0.35 for an open one
    (the eye aspect ratio of Soukupová and Čech 2016, as people mark eyes), by a small network on gradients and
    brightness of the patch round the eye. docs/outputs.md says how far it can be trusted.
    """
    network = _network()
    features = np.stack([eye_features(patch) for patch in eye_patches(face.landmarks, image)])
    hidden = np.maximum(features @ network["hidden"] + network["hidden_bias"], 0)
    right, left = np.maximum(hidden @ network["out"] + network["out_bias"], 0).tolist()
    return left, right


def eye_patches(landmarks: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return upright grey patches (2, 24, 32) round the person's right and left eye; the left one is mirrored."""
    first, last = (landmarks[corner].astype(np.float64) for corner in OUTER_CORNERS)
    step = PATCH_WIDTH * np.linalg.norm(last - first) / PATCH_WH[0]  # px of the picture per px of the patch
    axis = (last - first)[:2]
    axis /= max(float(np.linalg.norm(axis)), 1e-9)
    turn = step * np.array([[axis[0], -axis[1]], [axis[1], axis[0]]])
    middle = (np.array(PATCH_WH) - 1) / 2
    patches = []
    for (a, b), mirror in zip(CORNERS, (1, -1), strict=True):
        centre = (landmarks[a, :2] + landmarks[b, :2]) / 2
        linear = turn * (mirror, 1)
        matrix = np.column_stack([linear, centre - linear @ middle])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(image, matrix, PATCH_WH, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        patches.append(cv2.cvtColor(patch, cv2.COLOR_BGR2GRAY))
    return np.stack(patches)


def eye_features(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the features (768,) of a grey patch (24, 32), free of its contrast.

    In every cell: the mean brightness, the upward and the downward part of the vertical gradient, and the size of the
    horizontal one.
    """
    grey = cv2.GaussianBlur(patch.astype(np.float32), (0, 0), 0.7)
    grey = (grey - grey.mean()) / max(float(grey.std()), 4.0)
    down, right = np.gradient(grey)
    layers = np.stack([grey, np.maximum(down, 0), np.maximum(-down, 0), np.abs(right)], axis=2)
    return cv2.resize(layers, GRID_WH, interpolation=cv2.INTER_AREA).ravel()


@lru_cache(maxsize=1)
def _network() -> dict[str, NDArray[np.float32]]:
    """Load the shipped weights: hidden (768, 24), hidden_bias (24,), out (24,) and out_bias."""
    arrays = read_npz(EYE_OPENING, ["hidden", "hidden_bias", "out", "out_bias"], what="the network of eye openings")
    return {name: array.astype(np.float32) for name, array in arrays.items()}
