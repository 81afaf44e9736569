"""Compare a model with the shipped one on the shipped photograph: a wrong colour order or value range shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from export.checks.views import distance_percent, face_views, shipped_landmarks, view_landmarks
from runtime.errors import FaceMeshError
from runtime.models.spec import ModelSpec

CLOSE = 8.0  # % of the box: two networks that both find the face differ by less
FAR = 2.0  # times as far as with another form of the picture: the form is wrong
FARTHER, LEAST_GAIN = 1.3, 0.3  # times as far, and so many % of the box: the form may be wrong
RANGES = ((0.0, 1.0), (-127.5 / 128, 127.5 / 128), (0.0, 255.0))


def check_form(model: onnx.ModelProto, spec: ModelSpec, heavy: Mapping[str, NDArray] | None = None) -> str:
    """Return one line on the landmarks of ``model`` beside the shipped model's.

    Raises `FaceMeshError` if the model finds the face with another colour order or value range than its spec says, and
    not with this one. A network of random weights finds it with none.
    """
    views = face_views()
    reference = shipped_landmarks(views)

    def distance(order: str, span: tuple[float, float]) -> float:
        form = dataclasses.replace(spec.input, colour_order=order, value_range=span)
        landmarks = view_landmarks(model, dataclasses.replace(spec, input=form), views, heavy)
        return float(np.mean(distance_percent(landmarks, reference, views)))

    held = (spec.input.colour_order, spec.input.value_range)
    forms = [(order, span) for order in ("RGB", "BGR") for span in (spec.input.value_range, *RANGES)]
    found = {form: distance(*form) for form in dict.fromkeys(forms)}
    best = min(found, key=found.get)
    if found[best] > CLOSE:
        return (
            f"warning: landmarks are {found[held]:.0f} % of the box away from the shipped model's on the shipped "
            "photograph, in every form of the picture; is it trained, and is --arch right?"
        )
    better = _form_text(*best)
    if found[held] > max(CLOSE, FAR * found[best]):
        raise FaceMeshError(
            f"pictures in {_form_text(*held)} give landmarks {found[held]:.0f} % of the box away from the shipped "
            f"model's, in {better} {found[best]:.1f} %; give --colour-order and --value-range as it was trained"
        )
    text = f"landmarks are {found[held]:.1f} % of the box away from the shipped model's on the shipped photograph"
    if found[held] > max(FARTHER * found[best], LEAST_GAIN + found[best]):
        text += f", with pictures in {better} {found[best]:.1f} %: look at --contact-sheet"
    return text


def _form_text(order: str, span: tuple[float, float]) -> str:
    return f"{order} {span[0]:g} to {span[1]:g}"
