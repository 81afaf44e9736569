"""The machine and its state before and after a measurement, as far as Linux and optional libraries tell it.

Nothing here is needed to measure: everything that a machine does not tell is left out. The facts come from
Linux's own files; NVML and jetson-stats overrule them if they are installed.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.records import linux_files
from runtime.cores import usable_cores
from runtime.cuda.driver import find_device

ROOT = Path("/")  # of the files of Linux
HEAVY_CORES = 0.2  # of other processes, in cores
HEAVY_GPU_PERCENT = 20
LOW_CLOCK = 0.9  # of the highest clock, under a governor that promises the highest


def identity(root: Path = ROOT) -> dict[str, Any]:
    """Describe the kind of machine, without anything that names the single one.

    Figures of two machines that differ here cannot be compared.
    """
    found = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpu": linux_files.cpu_name(root),
        "cores": usable_cores(),
    }
    device = find_device()
    board = linux_files.read_text(root / "proc/device-tree/model")
    optional = {"board": board, "gpu": device.name if device else None}
    return found | {name: value for name, value in optional.items() if value}


def state(root: Path = ROOT) -> dict[str, Any]:
    """Read clocks, governor, power mode, temperatures, power and load of this moment, as far as possible."""
    found = {
        "governor": ", ".join(linux_files.governors(root)),
        "cpu_mhz": linux_files.megahertz(root, "scaling_cur_freq"),
        "cpu_max_mhz": linux_files.megahertz(root, "cpuinfo_max_freq"),
        "power_mode": linux_files.power_mode(root),
        "on_battery": linux_files.on_battery(root),
        "temperatures_c": linux_files.temperatures_c(root),
        "power_w": linux_files.rails_w(root),
        "slowed_by_heat": [kind for kind, level in linux_files.cooling_levels(root) if level > 0],
        "throttle_events": linux_files.throttle_events(root),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    for read in (_nvml_state, _jetson_state):  # the later one knows better
        found |= read()
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


class Watch:
    """The machine's state before and after a measurement, and the use of its CPUs by others in between."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._before = state(root)
        self._started = time.monotonic()
        self._cpu = linux_files.cpu_seconds(root)

    def finish(self) -> dict[str, Any]:
        """Return ``before`` and ``after``, and two numbers of cores if they are known.

        ``others`` is the use by other processes, ``stolen`` the time that the hypervisor took.
        """
        seconds = time.monotonic() - self._started
        cpu = linux_files.cpu_seconds(self._root)
        report: dict[str, Any] = {"before": self._before, "after": state(self._root)}
        if seconds > 0:
            for name in cpu.keys() & self._cpu.keys():
                report[name] = round(max(0.0, cpu[name] - self._cpu[name]) / seconds, 3)
        return report


def doubts(report: Mapping[str, Any]) -> list[str]:
    """List reasons not to trust figures taken during a `Watch`, a line each."""
    return [*_doubts_about_neighbours(report), *_doubts_about_clocks(report["before"], report["after"])]


def _doubts_about_neighbours(report: Mapping[str, Any]) -> Iterator[str]:
    if report.get("others", 0) > HEAVY_CORES:
        yield f"other processes used {report['others']:.1f} cores meanwhile: stop them"
    if report.get("stolen", 0) > HEAVY_CORES / 4:
        yield f"the hypervisor gave {report['stolen']:.2f} cores' time to other guests"
    if (busy := report["before"].get("gpu_busy_percent", 0)) > HEAVY_GPU_PERCENT:
        yield f"the GPU was {busy} % busy before anything was measured: stop what else runs on it"


def _doubts_about_clocks(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    # Power and heat.
    if before.get("on_battery") or after.get("on_battery"):
        yield "running on battery: plug it in"
    events = after.get("throttle_events", 0) - before.get("throttle_events", 0)
    heat = sorted({*before.get("slowed_by_heat", ()), *after.get("slowed_by_heat", ())})
    if events > 0 or heat:
        cause = ", ".join(heat) or f"{events} events"
        yield f"throttled ({cause}): cool it, or choose a power mode that it can hold"
    if slowed := after.get("gpu_slowed_by"):
        yield f"the GPU is slowed down by {', '.join(slowed)}"

    # Clocks that are low or change.
    clock = after.get("cpu_mhz", 0)
    most = after.get("cpu_max_mhz", 0)
    governor = after.get("governor")
    if governor == "performance" and clock < LOW_CLOCK * most:
        yield f"the CPU runs at {clock:g} of {most:g} MHz under the governor performance"
    if governor not in (None, "performance"):
        remedy = "set performance, on a Jetson run jetson_clocks"
        yield f"the governor is {governor}, so clocks follow the load: {remedy}"
    if before.get("power_mode") != after.get("power_mode"):
        yield f"the power mode changed from {before.get('power_mode')} to {after.get('power_mode')} meanwhile"


def peak_memory_mb(root: Path = ROOT) -> float | None:
    """Return the most memory that this process has held at a time, in MB."""
    # getrusage() would count what the parent held when it started us.
    match = re.search(r"^VmHWM:\s+(\d+) kB", linux_files.read_text(root / "proc/self/status") or "", re.MULTILINE)
    if match:
        return int(match[1]) / 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 1024)


def memory_mb(root: Path = ROOT) -> float | None:
    """Return the memory that this process holds now, in MB."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", linux_files.read_text(root / "proc/self/status") or "", re.MULTILINE)
    return int(match[1]) / 1024 if match else None


def _nvml_state() -> dict[str, Any]:
    try:
        from benchmarks.records.nvml import read_gpu
    except ModuleNotFoundError:
        return {}
    return read_gpu()


def _jetson_state() -> dict[str, Any]:
    try:
        from benchmarks.records.jetson import read_jetson
    except ModuleNotFoundError:
        return {}
    return read_jetson()
