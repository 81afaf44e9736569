"""The state of a machine, from stand-ins of Linux's files, NVML and jetson-stats."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from benchmarks.records import machine

ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd42\n",
    "proc/stat": "cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 0\n",
    "proc/self/status": "Name:\tpython\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "729600\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1510400\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1344000\n",
    "var/lib/nvpmodel/status": "pmode:0001",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48562\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/thermal/cooling_device1/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device1/cur_state": "2\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon1/in1_input": "5000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "900\n",
    "sys/class/hwmon/hwmon2/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon2/oc3_event_cnt": "4\n",
}


@pytest.fixture(autouse=True)
def _no_libraries(monkeypatch):
    """Neither NVML nor jetson-stats, whatever is installed here; tests put stand-ins in their place."""
    for library in ("pynvml", "jtop"):
        monkeypatch.setitem(sys.modules, library, None)
    for module in ("benchmarks.records.nvml", "benchmarks.records.jetson"):
        monkeypatch.delitem(sys.modules, module, raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_identity_of_a_board(tmp_path):
    found = machine.identity(write(tmp_path, ORIN))
    assert found["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["cores"] >= 1


def test_identity_names_neither_host_nor_user(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.node", lambda: "secret-host")
    found = machine.identity(write(tmp_path, {"proc/cpuinfo": "model name\t: AMD Ryzen 9\nserial\t: secret\n"}))
    assert found["cpu"] == "AMD Ryzen 9"
    assert "secret" not in str(found)


def test_state_of_a_board_from_files_alone(tmp_path):
    found = machine.state(write(tmp_path, ORIN))
    assert found["governor"] == "schedutil"
    assert (found["cpu_mhz"], found["cpu_max_mhz"]) == (1344, 1510.4)
    assert found["power_mode"] == "7W"
    assert found["temperatures_c"] == {"cpu-thermal": 48.562}  # the other sensor is off
    assert found["power_w"] == {"VDD_IN": 4.5}
    assert found["throttle_events"] == 4
    assert "slowed_by_heat" not in found  # a fan that turns is no throttling
    assert "on_battery" not in found


def test_state_of_a_machine_that_tells_nothing(tmp_path):
    assert machine.state(tmp_path).keys() <= {"load_average"}
    assert machine.memory_mb(tmp_path) is None


def test_memory(tmp_path):
    root = write(tmp_path, ORIN)
    assert machine.peak_memory_mb(root) == 200
    assert machine.memory_mb(root) == 100
    assert machine.peak_memory_mb(tmp_path / "elsewhere") > 1  # from the system's call


@pytest.mark.parametrize(
    ("files", "on_battery"),
    [
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging", "AC/type": "Mains", "AC/online": "0"}, True),
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging", "AC/type": "Mains", "AC/online": "1"}, None),
        ({"BAT0/type": "Battery", "BAT0/status": "Full"}, None),
        ({"mouse/type": "Battery", "mouse/status": "Discharging", "mouse/scope": "Device"}, None),
    ],
)
def test_battery(tmp_path, files, on_battery):
    root = write(tmp_path, {f"sys/class/power_supply/{name}": text + "\n" for name, text in files.items()})
    assert machine.state(root).get("on_battery") is on_battery


def test_watch_counts_what_others_use(tmp_path, monkeypatch):
    root = write(tmp_path, ORIN)
    now = iter([0.0, 10.0])
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(machine.os, "sysconf", lambda _: 100)
    own = iter([(1.0, 0, 0, 0, 0), (4.0, 0, 0, 0, 0)])
    monkeypatch.setattr(machine.os, "times", lambda: next(own))
    watch = machine.Watch(root)
    write(tmp_path, {"proc/stat": "cpu  900 0 200 1000 0 0 0 50 0 0\n"})  # 9 s more than before, 3 of them ours
    report = watch.finish()
    assert report["others"] == pytest.approx(0.6)
    assert report["stolen"] == pytest.approx(0.05)


def test_no_doubts_about_a_quiet_machine():
    quiet = {
        "governor": "performance",
        "cpu_mhz": 2000,
        "cpu_max_mhz": 2000,
        "power_mode": "MAXN",
        "throttle_events": 3,
        "gpu_busy_percent": 0,
    }
    assert machine.doubts({"before": quiet, "after": quiet, "others": 0.01, "stolen": 0.0}) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"others": 0.9}, "other processes used 0.9 cores"),
        ({"stolen": 0.2}, "hypervisor"),
        ({"after": {"on_battery": True}}, "battery"),
        ({"after": {"throttle_events": 4}, "before": {"throttle_events": 3}}, "throttled (1 events)"),
        ({"after": {"slowed_by_heat": ["cpufreq-cpu0"]}}, "throttled (cpufreq-cpu0)"),
        ({"after": {"gpu_slowed_by": ["GPU heat"]}}, "slowed down by GPU heat"),
        ({"before": {"gpu_busy_percent": 60}}, "60 % busy before"),
        ({"after": {"governor": "performance", "cpu_mhz": 700, "cpu_max_mhz": 1500}}, "700 of 1500 MHz"),
        ({"after": {"governor": "schedutil"}}, "governor is schedutil"),
        ({"before": {"power_mode": "15W"}, "after": {"power_mode": "7W"}}, "from 15W to 7W"),
    ],
)
def test_each_doubt(change, what):
    (line,) = machine.doubts({"before": {}, "after": {}, **change})
    assert what in line


def fake_nvml(**functions) -> types.ModuleType:
    module = types.ModuleType("pynvml")
    module.NVMLError = type("NVMLError", (Exception,), {})
    module.NVML_TEMPERATURE_GPU = 0
    module.NVML_CLOCK_SM = 1
    module.NVML_CLOCK_MEM = 2
    module.closed = 0

    def shutdown():
        module.closed += 1

    def unsupported(*_):
        raise module.NVMLError("Not Supported")

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": shutdown,
        "nvmlDeviceGetHandleByIndex": lambda index: f"gpu {index}",
        "nvmlDeviceGetPowerUsage": lambda gpu: 61_500,
        "nvmlDeviceGetTemperature": lambda gpu, sensor: 55,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: 0x21,
        "nvmlDeviceGetCurrentClocksEventReasons": unsupported,  # an older driver
        "nvmlDeviceGetClockInfo": lambda gpu, which: {1: 1400, 2: 7000}[which],
        "nvmlDeviceGetMaxClockInfo": lambda gpu, which: 2100,
        "nvmlDeviceGetUtilizationRates": unsupported,
        "nvmlSystemGetDriverVersion": lambda: b"580.10",
    }
    for name, function in {**answers, **functions}.items():
        setattr(module, name, function)
    return module


def test_nvml(tmp_path, monkeypatch):
    library = fake_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    found = machine.state(tmp_path)
    assert found["gpu_mhz"] == 1400
    assert found["gpu_max_mhz"] == 2100
    assert (found["gpu_c"], found["gpu_w"]) == (55, 61.5)
    assert found["gpu_slowed_by"] == ["GPU heat"]  # idle, the lowest bit, is no slowdown
    assert found["driver"] == "580.10"
    assert "gpu_busy_percent" not in found
    assert library.closed == 1


@pytest.mark.parametrize("failing", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_nvml_without_driver_or_device(tmp_path, monkeypatch, failing):
    library = fake_nvml()

    def fail(*_):
        raise library.NVMLError("Driver Not Loaded")

    setattr(library, failing, fail)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert machine.state(tmp_path).keys() <= {"load_average"}
    assert library.closed == (0 if failing == "nvmlInit" else 1)


class FakeJtop:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def ok(self):
        return True

    gpu = {"orin": {"freq": {"cur": 306_000, "max": 624_750}}}
    memory = {"RAM": {"tot": 7_800_000}, "EMC": {"cur": 2_133_000}}
    cpu = {
        "cpu": [
            {"online": True, "governor": "performance", "freq": {"cur": 1_510_400, "max": 1_510_400}},
            {"online": False},
        ]
    }
    power = {"rail": {"VDD_SOC": {"power": 1200}}, "tot": {"power": 4800}}
    temperature = {"cpu": {"online": True, "temp": 47.5}, "cv0": {"online": False, "temp": -256}}
    nvpmodel = types.SimpleNamespace(name="MAXN_SUPER")
    jetson_clocks = 1


def test_jetson_stats_know_better(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=FakeJtop))
    found = machine.state(write(tmp_path, ORIN))
    assert found["power_mode"] == "MAXN_SUPER"
    assert found["governor"] == "performance"
    assert found["jetson_clocks"] is True
    assert (found["cpu_mhz"], found["gpu_mhz"], found["gpu_max_mhz"], found["memory_mhz"]) == (
        1510.4,
        306,
        624.75,
        2133,
    )
    assert found["temperatures_c"] == {"cpu": 47.5}
    assert found["power_w"] == {"VDD_SOC": 1.2, "total": 4.8}
    assert found["throttle_events"] == 4  # only Linux's files have it


def test_jetson_stats_without_their_service(tmp_path, monkeypatch):
    def refuse():
        raise RuntimeError("The jtop.service is not active")

    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=refuse))
    assert machine.state(write(tmp_path, ORIN))["power_mode"] == "7W"


def test_this_machine():
    report = machine.Watch().finish()
    assert isinstance(machine.doubts(report), list)
    assert machine.peak_memory_mb() >= machine.memory_mb() * 0.9
