"""The cores that a process may run on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime.cores import usable_cores

COUNT_ON_ONE_CORE = """
import os
from runtime.cores import usable_cores
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(usable_cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux's affinity")
def test_a_process_that_is_bound_to_one_core_has_one():
    """In a fresh process, whose binding cannot disturb other tests."""
    counted = subprocess.run([sys.executable, "-c", COUNT_ON_ONE_CORE], stdout=subprocess.PIPE, text=True, check=True)
    assert int(counted.stdout) == 1


@pytest.mark.parametrize(("total", "usable"), [(6, 6), (None, 1)])
def test_systems_without_affinity_count_all(monkeypatch, total, usable):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: total)
    assert usable_cores() == usable
