"""The cores that a process may run on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime.cores import has_byte_products, usable_cores

COUNT_ON_ONE_CORE = """
import os
from runtime.cores import has_byte_products, usable_cores
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


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni fsrm\n\nprocessor\t: 1\nflags\t\t: fpu\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512bw\nvmx flags\t: avx512_vnni\n", False),
        ("processor\t: 0\nBogoMIPS\t: 62.5\nFeatures\t: fp asimd asimdhp asimddp\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd evtstrm\n", False),
        ("", False),
        (None, False),
    ],
)
def test_instructions_for_byte_products(monkeypatch, tmp_path, content, expected):
    """As Linux lists them on x86 and ARM; other systems have no such file."""
    path = tmp_path / "cpuinfo"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr("runtime.cores.CPUINFO", path)
    assert has_byte_products() is expected
