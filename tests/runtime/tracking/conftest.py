"""Followers in a world of known faces."""

from __future__ import annotations

import pytest

from runtime.families.table import open_family
from runtime.inference.second_look import SecondLook
from runtime.tracking.follower import FaceFollower
from runtime.tracking.options import Tracking
from tests.standins.face_world import FaceWorld


@pytest.fixture(scope="session")
def family(make_spec):
    return open_family(make_spec())


@pytest.fixture
def open_world(family):
    """``open_world(paths, settings=Tracking(smoothing=None), **FaceWorld's)``: a world and its follower."""

    def open_world(paths, settings=None, **keywords):
        world = FaceWorld(family, paths, **keywords)
        settings = settings or Tracking(smoothing=None)
        has_confidence = keywords.get("has_confidence", True)
        look = SecondLook(world, family, 128)
        return world, FaceFollower(world, look, family, world, settings, has_confidence)

    return open_world
