"""Conditions that faces are measured under: kinds of perturbations, each at several levels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.robustness import perturbations
from benchmarks.robustness.perturbations import FacePicture

Perturbation = Callable[[FacePicture, float, np.random.Generator], FacePicture]


@dataclass(frozen=True)
class Kind:
    """One kind of perturbation."""

    name: str
    unit: str  # behind a level
    levels: tuple[float, ...]
    perturb: Perturbation
    clean_place: int = 0  # of the unchanged picture among the levels


@dataclass(frozen=True)
class Condition:
    """A perturbation at one level."""

    kind: Kind
    level: float
    number: int  # among all conditions; part of the seed, so that a selection of kinds changes no draw

    @property
    def label(self) -> str:
        """Kind and level in words."""
        return self.kind.name if self.kind is CLEAN else f"{self.kind.name} {self.level:g}{self.kind.unit}"


CUTS = (10.0, 20.0, 30.0, 40.0)
CLEAN = Kind("clean", "", (0.0,), perturbations.unchanged)
KINDS = (
    CLEAN,
    Kind("roll", "°", tuple(float(degrees) for degrees in range(30, 360, 30)), perturbations.roll),
    Kind("size", " px", (16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 400.0), perturbations.size, 6),
    Kind("blur", " %", (1.0, 2.0, 3.0, 5.0, 8.0), perturbations.blur),
    Kind("motion", " %", (5.0, 10.0, 20.0, 30.0), perturbations.motion_blur),
    Kind("gain", "", (0.05, 0.1, 0.25, 0.5, 2.0, 4.0), perturbations.gain, 4),
    Kind("gamma", "", (0.3, 0.5, 2.0, 3.0, 5.0), perturbations.gamma, 2),
    Kind("contrast", "", (0.1, 0.25, 0.5, 2.0), perturbations.contrast, 3),
    Kind("noise", "", (10.0, 20.0, 40.0, 60.0), perturbations.noise),
    Kind("jpeg", "", (30.0, 15.0, 8.0, 4.0), perturbations.jpeg),
    Kind("occlusion", " %", (10.0, 20.0, 30.0, 40.0, 50.0), perturbations.occlusion),
    Kind("cut-top", " %", CUTS, perturbations.cut_top),
    Kind("cut-bottom", " %", CUTS, perturbations.cut_bottom),
    Kind("cut-left", " %", CUTS, perturbations.cut_left),
    Kind("cut-right", " %", CUTS, perturbations.cut_right),
    Kind("aspect", "", (0.5, 0.67, 0.8, 1.25, 1.5, 2.0), perturbations.aspect, 3),
)


def conditions(only: tuple[str, ...] | None = None) -> list[Condition]:
    """Return the conditions of all kinds, or of those in ``only`` and the clean one."""
    everything = [(kind, level) for kind in KINDS for level in kind.levels]
    listed = [Condition(kind, level, number) for number, (kind, level) in enumerate(everything)]
    return [one for one in listed if only is None or one.kind.name in only or one.kind is CLEAN]
