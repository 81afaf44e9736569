"""Processor time of another process and its children, from Linux' /proc: unlike waiting times, load hardly moves it."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.errors import FaceMeshError


def processor_time_s(pid: int, proc: Path = Path("/proc")) -> float:
    """Return the seconds that a process and its living children have computed, user and system.

    Raises `FaceMeshError` if there is no such process.
    """
    ticks, parents = {}, {}
    for folder in proc.iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    if pid not in ticks:
        raise FaceMeshError(f"--pid {pid}: no such process on this machine; give the number of tritonserver")
    family, size = {pid}, 0
    while len(family) > size:
        size = len(family)
        family |= {child for child, parent in parents.items() if parent in family}
    return sum(ticks[member] for member in family) / os.sysconf("SC_CLK_TCK")
