"""From a picture to the network's input."""

from __future__ import annotations

import cv2
import numpy as np

from runtime.geometry.crop import crop_into, crop_matrix


def test_crop(measured, face, runner):
    spec = runner.spec
    matrix = crop_matrix(face.box_xyxy, spec.crop_scale, spec.input.size)
    measured(crop_into, face.image, matrix, spec.input, runner.input[0])


def test_crop_of_a_large_face(measured, face, runner):
    """Every pixel of the crop is the mean of many of the picture."""
    spec = runner.spec
    image = cv2.resize(face.image, None, fx=4, fy=4)
    matrix = crop_matrix(4 * face.box_xyxy, spec.crop_scale, spec.input.size)
    measured(crop_into, image, matrix, spec.input, runner.input[0])


def test_crop_that_is_turned(measured, face, runner):
    spec = runner.spec
    matrix = crop_matrix(face.box_xyxy, spec.crop_scale, spec.input.size)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    measured(crop_into, face.image, turn @ matrix, spec.input, runner.input[0])
