"""The shipped photograph, which has one face."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.models.shipped import SHIPPED_PICTURE


@pytest.fixture(scope="session")
def portrait() -> Path:
    return SHIPPED_PICTURE
