"""The C library, built once for all tests of this folder into ``build/library``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.library.building import Build, build_library
from tests.runtime.library.facemesh_h import Library


@pytest.fixture(scope="session")
def build(repository: Path) -> Build:
    return build_library(repository / "build" / "library")


@pytest.fixture(scope="session")
def library(build: Build) -> Library:
    return Library(build.folder / "libfacemesh.so")
