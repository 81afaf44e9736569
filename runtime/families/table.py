"""Table of the families of networks, by their name in a model's spec."""

from __future__ import annotations

from runtime.families.coefficients import CoefficientFamily
from runtime.families.family import Family, NetworkSpec
from runtime.families.position_map import PositionMapFamily
from runtime.types import MeshTopology

FAMILIES: dict[str, type[Family]] = {
    "position_map": PositionMapFamily,
    "coefficients": CoefficientFamily,
}


def open_family(spec: NetworkSpec, topology: MeshTopology | None = None) -> Family:
    """Return the family of a network; ``topology`` None loads the one that the spec names.

    Raises `FaceMeshError` for a topology that cannot be loaded.
    """
    return FAMILIES[spec.family](spec, topology)
