"""What the machine is, and what it was doing before and after a measurement: as much of it as Linux and optional libraries tell.

Nothing here is needed to measure: what a machine does not tell is left out. jetson-stats is asked where it is installed, then NVML; the
rest, and what they do not say, comes from Linux's own files.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.cores import usable_cores
from runtime.cuda.driver import find_device

ROOT = Path("/")  # of the files of Linux
HEAVY_CORES = 0.2  # of other processes, in cores
HEAVY_GPU_PERCENT = 20
LOW_CLOCK = 0.9  # of the highest clock, under a governor that promises the highest


def identity(root: Path = ROOT) -> dict[str, Any]:
    """What the machine is, without a name or number of the single machine; figures of two that differ here cannot be compared."""
    found = {"system": platform.system(), "architecture": platform.machine(), "cpu": _cpu_name(root), "cores": usable_cores()}
    optional = {"board": _text(root / "proc/device-tree/model"), "gpu": device.name if (device := find_device()) else None}
    return found | {name: value for name, value in optional.items() if value}


def state(root: Path = ROOT) -> dict[str, Any]:
    """Clocks, governor, power mode, temperatures, power and load at this moment: what could be read of it."""
    found = {
        "governor": ", ".join(_distinct(root, "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")),
        "cpu_mhz": _megahertz(root, "scaling_cur_freq"),
        "cpu_max_mhz": _megahertz(root, "cpuinfo_max_freq"),
        "power_mode": _power_mode(root),
        "on_battery": _on_battery(root),
        "temperatures_c": _temperatures(root),
        "power_w": _rails(root),
        "slowed_by_heat": [kind for kind, level in _cooling(root) if level > 0],
        "throttle_events": _throttle_events(root),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    for read in (_nvml_state, _jetson_state):  # the later one knows better
        found |= read()
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


class Watch:
    """The machine's state before and after what is measured, and how much of the CPUs others used in between."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._before = state(root)
        self._started, self._cpu = time.monotonic(), _cpu_seconds(root)

    def finish(self) -> dict[str, Any]:
        """``before``, ``after``, and in cores ``others`` (other processes) and ``stolen`` (by the hypervisor) where they can be told."""
        seconds, cpu = time.monotonic() - self._started, _cpu_seconds(self._root)
        report: dict[str, Any] = {"before": self._before, "after": state(self._root)}
        if seconds > 0:
            report |= {name: round(max(0.0, cpu[name] - self._cpu[name]) / seconds, 3) for name in cpu.keys() & self._cpu.keys()}
        return report


def doubts(report: Mapping[str, Any]) -> list[str]:
    """Why figures taken during a `Watch` should not be trusted, a line each."""
    before, after = report["before"], report["after"]
    found = []
    if report.get("others", 0) > HEAVY_CORES:
        found.append(f"other processes used {report['others']:.1f} cores meanwhile: stop them")
    if report.get("stolen", 0) > HEAVY_CORES / 4:
        found.append(f"the hypervisor gave {report['stolen']:.2f} cores' time to other guests")
    if before.get("on_battery") or after.get("on_battery"):
        found.append("running on battery: plug it in")
    events = after.get("throttle_events", 0) - before.get("throttle_events", 0)
    heat = sorted({*before.get("slowed_by_heat", ()), *after.get("slowed_by_heat", ())})
    if events > 0 or heat:
        found.append(f"throttled ({', '.join(heat) or f'{events} events'}): cool it, or choose a power mode that it can hold")
    if slowed := after.get("gpu_slowed_by"):
        found.append(f"the GPU is slowed down by {', '.join(slowed)}")
    if (busy := before.get("gpu_busy_percent", 0)) > HEAVY_GPU_PERCENT:
        found.append(f"the GPU was {busy} % busy before anything was measured: stop what else runs on it")
    clock, most = after.get("cpu_mhz", 0), after.get("cpu_max_mhz", 0)
    if after.get("governor") == "performance" and clock < LOW_CLOCK * most:
        found.append(f"the CPU runs at {clock:g} of {most:g} MHz under the governor performance")
    if after.get("governor") not in (None, "performance"):
        found.append(f"the governor is {after['governor']}, so clocks follow the load: set performance, on a Jetson run jetson_clocks")
    if before.get("power_mode") != after.get("power_mode"):
        found.append(f"the power mode changed from {before.get('power_mode')} to {after.get('power_mode')} meanwhile")
    return found


def peak_memory_mb(root: Path = ROOT) -> float | None:
    """Most memory that this process has held at a time."""
    # getrusage() would count what the parent held when it started us.
    match = re.search(r"^VmHWM:\s+(\d+) kB", _text(root / "proc/self/status") or "", re.MULTILINE)
    if match:
        return int(match[1]) / 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 1024)


def memory_mb(root: Path = ROOT) -> float | None:
    """Memory that this process holds now."""
    match = re.search(r"^VmRSS:\s+(\d+) kB", _text(root / "proc/self/status") or "", re.MULTILINE)
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


def _cpu_name(root: Path) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cpu_seconds(root: Path) -> dict[str, float]:
    """Seconds since the start that CPUs spent on other processes, and that the hypervisor kept for itself."""
    fields = (_text(root / "proc/stat") or "").partition("\n")[0].split()[1:9]
    if len(fields) < 8:
        return {}
    user, nice, system, _, _, irq, softirq, stolen = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields)
    own = os.times()
    return {"others": user + nice + system + irq + softirq - sum(own[:4]), "stolen": stolen}


def _power_mode(root: Path) -> str | None:
    """The mode of nvpmodel: its name, or its number where the table of names cannot be read."""
    match = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    if not match:
        return None
    number = int(match[1])
    names = dict(re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", _text(root / "etc/nvpmodel.conf") or ""))
    return names.get(str(number), f"mode {number}")


def _on_battery(root: Path) -> bool | None:
    supplies = [(path, _text(path / "type")) for path in _matches(root, "sys/class/power_supply/*") if _text(path / "scope") != "Device"]
    if any(_text(path / "online") == "1" for path, kind in supplies if kind != "Battery"):
        return None
    return True if any(_text(path / "status") == "Discharging" for path, kind in supplies if kind == "Battery") else None


def _temperatures(root: Path) -> dict[str, float]:
    found = {}
    for zone in _matches(root, "sys/class/thermal/thermal_zone*"):
        name, value = _text(zone / "type"), _number(zone / "temp")
        if name and value is not None and value > 0:  # sensors that are off say 0 or less
            found[name] = value / 1000
    return found


def _rails(root: Path) -> dict[str, float]:
    """Watts of the power monitors on Jetson boards (INA3221)."""
    found = {}
    for monitor in _matches(root, "sys/class/hwmon/hwmon*"):
        if _text(monitor / "name") == "ina3221":
            for number in (1, 2, 3):
                name, millivolts, milliamperes = (monitor / f"{part}" for part in (f"in{number}_label", f"in{number}_input", f"curr{number}_input"))
                if (label := _text(name)) and None not in (values := (_number(millivolts), _number(milliamperes))):
                    found[label] = round(values[0] * values[1] / 1e6, 3)
    return found


def _cooling(root: Path) -> list[tuple[str, float]]:
    """The devices that the kernel slows down to cool the machine, each with its level; 0 is at full speed."""
    devices = [(_text(path / "type") or "", _number(path / "cur_state") or 0) for path in _matches(root, "sys/class/thermal/cooling_device*")]
    return [(kind, level) for kind, level in devices if re.search("Processor|cpufreq|devfreq|thermal-", kind, re.IGNORECASE)]


def _throttle_events(root: Path) -> int | None:
    """How often hardware was slowed down since the start: by heat on x86, by heat or current on Jetson boards."""
    counters = [
        *_matches(root, "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"),
        *_matches(root, "sys/class/hwmon/hwmon*/oc*_event_cnt"),
    ]
    return int(sum(_number(path) or 0 for path in counters)) if counters else None


def _megahertz(root: Path, name: str) -> float | None:
    """Of the fastest core."""
    values = [_number(path) for path in _matches(root, f"sys/devices/system/cpu/cpu*/cpufreq/{name}")]
    return max((value for value in values if value is not None), default=0) / 1000 or None


def _distinct(root: Path, pattern: str) -> list[str]:
    return sorted({text for path in _matches(root, pattern) if (text := _text(path))})


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    """Content of one of the kernel's small files, None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None
