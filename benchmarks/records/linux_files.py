"""The state of a machine in Linux's own files. ``root`` is the folder that holds ``proc``, ``sys`` and ``etc``."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def cpu_name(root: Path) -> str:
    """Return the model of the CPU, or Python's word for it."""
    match = re.search(r"^model name\s*:\s*(.+)$", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def cpu_seconds(root: Path) -> dict[str, float]:
    """Return the seconds that CPUs spent on other processes, and the seconds that the hypervisor took."""
    fields = (read_text(root / "proc/stat") or "").partition("\n")[0].split()[1:9]
    if len(fields) < 8:
        return {}
    user, nice, system, _, _, irq, softirq, stolen = (int(field) / os.sysconf("SC_CLK_TCK") for field in fields)
    own = os.times()
    return {"others": user + nice + system + irq + softirq - sum(own[:4]), "stolen": stolen}


def power_mode(root: Path) -> str | None:
    """Return the mode of nvpmodel: its name, or its number if the table of names cannot be read."""
    match = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if not match:
        return None
    number = int(match[1])
    names = dict(re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", read_text(root / "etc/nvpmodel.conf") or ""))
    return names.get(str(number), f"mode {number}")


def on_battery(root: Path) -> bool | None:
    """Return True on battery, None on mains or without a battery; batteries of mice and the like do not count."""
    supplies = [path for path in _matches(root, "sys/class/power_supply/*") if read_text(path / "scope") != "Device"]
    batteries = [path for path in supplies if read_text(path / "type") == "Battery"]
    if any(read_text(path / "online") == "1" for path in supplies if path not in batteries):
        return None
    return True if any(read_text(path / "status") == "Discharging" for path in batteries) else None


def temperatures_c(root: Path) -> dict[str, float]:
    """Return the temperatures by thermal zone."""
    found = {}
    for zone in _matches(root, "sys/class/thermal/thermal_zone*"):
        name = read_text(zone / "type")
        value = _number(zone / "temp")
        if name and value is not None and value > 0:  # sensors that are off say 0 or less
            found[name] = value / 1000
    return found


def rails_w(root: Path) -> dict[str, float]:
    """Return the watts by rail of the power monitors on Jetson boards (INA3221)."""
    found = {}
    for monitor in _matches(root, "sys/class/hwmon/hwmon*"):
        if read_text(monitor / "name") != "ina3221":
            continue
        for number in (1, 2, 3):
            label = read_text(monitor / f"in{number}_label")
            millivolts = _number(monitor / f"in{number}_input")
            milliamperes = _number(monitor / f"curr{number}_input")
            if label and millivolts is not None and milliamperes is not None:
                found[label] = round(millivolts * milliamperes / 1e6, 3)
    return found


def cooling_levels(root: Path) -> list[tuple[str, float]]:
    """List the devices that the kernel slows down to cool the machine, each with its level; 0 is full speed."""
    found = []
    for path in _matches(root, "sys/class/thermal/cooling_device*"):
        kind = read_text(path / "type") or ""
        if re.search("Processor|cpufreq|devfreq|thermal-", kind, re.IGNORECASE):
            found.append((kind, _number(path / "cur_state") or 0))
    return found


def throttle_events(root: Path) -> int | None:
    """Count the slowdowns since the start: by heat on x86, by heat or current on Jetson boards."""
    counters = [
        *_matches(root, "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count"),
        *_matches(root, "sys/class/hwmon/hwmon*/oc*_event_cnt"),
    ]
    return int(sum(_number(path) or 0 for path in counters)) if counters else None


def megahertz(root: Path, name: str) -> float | None:
    """Return the clock of the fastest core by the file ``name`` of cpufreq."""
    values = [_number(path) for path in _matches(root, f"sys/devices/system/cpu/cpu*/cpufreq/{name}")]
    return max((value for value in values if value is not None), default=0) / 1000 or None


def governors(root: Path) -> list[str]:
    """Return the distinct governors of the cores."""
    files = _matches(root, "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    return sorted({text for path in files if (text := read_text(path))})


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def _number(path: Path) -> float | None:
    try:
        return float(read_text(path) or "")
    except ValueError:
        return None


def read_text(path: Path) -> str | None:
    """Read one of the kernel's small files; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return None
