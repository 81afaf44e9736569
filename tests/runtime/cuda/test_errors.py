"""Errors of the driver in Python and in the C library."""

from __future__ import annotations

import re

from runtime.cuda.errors import LOST


def test_both_languages_know_the_same_losses_of_a_device(repository):
    source = (repository / "runtime" / "native" / "driver" / "driver_api.cpp").read_text()
    (table,) = re.findall(r"LOST\[\] = \{(.*?)\};", source, re.DOTALL)
    names = re.findall(r'"(\w+)"', table)
    assert len(names) == len(LOST)
    assert set(names) == LOST
