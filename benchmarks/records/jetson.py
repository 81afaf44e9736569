"""The state of a Jetson as jetson-stats sees it. Home of jtop (distribution jetson-stats)."""

from __future__ import annotations

from typing import Any

import jtop


def read_jetson() -> dict[str, Any]:
    """Read power mode, clocks (MHz), temperatures (°C) and power (W); empty if the service does not answer."""
    try:
        with jtop.jtop() as jetson:
            return _read(jetson) if jetson.ok() else {}
    except Exception:  # No service, another version or no Jetson: each has its own exception, some of them Python's.
        return {}


def _read(jetson: Any) -> dict[str, Any]:
    # Clocks, which jetson-stats gives in kHz.
    gpu = next(iter(jetson.gpu.values()), {})
    cores = [core for core in jetson.cpu["cpu"] if core.get("online")]
    clocks = {
        "cpu_mhz": max((core["freq"]["cur"] for core in cores), default=0) / 1000,
        "cpu_max_mhz": max((core["freq"]["max"] for core in cores), default=0) / 1000,
        "gpu_mhz": gpu.get("freq", {}).get("cur", 0) / 1000,
        "gpu_max_mhz": gpu.get("freq", {}).get("max", 0) / 1000,
        "memory_mhz": jetson.memory.get("EMC", {}).get("cur", 0) / 1000,
    }

    # Power, in mW there.
    power = {name: rail["power"] / 1000 for name, rail in jetson.power.get("rail", {}).items()}
    if "tot" in jetson.power:
        power["total"] = jetson.power["tot"]["power"] / 1000

    # Settings and sensors; leave out everything that it does not tell.
    sensors = {name: sensor["temp"] for name, sensor in jetson.temperature.items() if sensor.get("online", True)}
    found = {
        **{name: value for name, value in clocks.items() if value > 0},
        "governor": ", ".join(sorted({core["governor"] for core in cores if "governor" in core})),
        "power_mode": None if jetson.nvpmodel is None else str(jetson.nvpmodel.name),
        "jetson_clocks": None if jetson.jetson_clocks is None else bool(jetson.jetson_clocks),
        "temperatures_c": sensors,
        "power_w": power,
    }
    return {name: value for name, value in found.items() if value not in (None, "", {})}
