"""``python -m benchmarks gpu-report``: all measurements of a CUDA machine, as one JSON file and one page.

It says what the machine is, runs the tests marked ``gpu``, builds engines of the shipped models with the TensorRT and
TensorRT-RTX that are installed, and measures copies, kernels, launches and whole frames: around a position map that was
made on the host, around the models in PyTorch (an upper bound for TensorRT), around engines, and through ONNX Runtime's
providers, as far as each is installed. Every part runs in a process that may fail: then the report says so in one line,
and the rest goes on. Exit code 1: some failed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.gpu.clocks import SeriesLength
from benchmarks.gpu.hardware_tests import QUICK_TESTS_S, TESTS_S, gpu_tests
from benchmarks.gpu.page import make_page
from benchmarks.gpu.settings import QUICK_SETTINGS, SETTINGS
from benchmarks.gpu.summary import WITHOUT_NETWORK, text
from benchmarks.gpu.worker import Result, Task, new_result, run_apart
from benchmarks.records.machine import Watch, doubts
from benchmarks.records.provenance import REPOSITORY, provenance, write_json
from benchmarks.report.content import Page
from runtime.console.arguments import positive_int
from runtime.console.extras import is_jetson, remedy
from runtime.cuda.driver import query_device
from runtime.errors import FaceMeshError
from runtime.families.table import FAMILIES
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import ModelSpec, load_spec, with_face_model
from runtime.storage.whole_files import whole_file, write_error

FORMAT = 1
KIND = "gpu-report"
DETECTION = "Detection"  # the first word of its groups
FRAMES, QUICK_FRAMES, QUICK_SECONDS = 1000, 200, 1.0
QUICK_REPORT_S = 120  # no part of --quick begins later
PROVIDERS = ("cuda", "tensorrt", "nv-tensorrt-rtx")  # of ONNX Runtime
WARM_UP_S, QUICK_WARM_UP_S = 0.5, 0.1
PART_S, QUICK_PART_S = 180, 45  # one part may last so long, its process's start included
BUILD_S, QUICK_BUILD_S = 600, 90
SMI = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem")
SMI += ("power.draw", "power.limit", "temperature.gpu", "utilization.gpu")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``python -m benchmarks gpu-report``."""
    parser = subparsers.add_parser("gpu-report", help="everything on a CUDA machine", description=__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="for gpu-report.json and gpu-report.html"
    )
    parser.add_argument(
        "--models",
        type=Path,
        nargs="+",
        default=[],
        metavar="MODEL.onnx",
        help="besides the shipped ones, for instance one in INT8",
    )
    parser.add_argument(
        "--face-model",
        type=Path,
        metavar="FILE.npz",
        help="of networks of coefficients among --models (default: the one that their .json names, or beside them)",
    )
    parser.add_argument(
        "--frames", type=positive_int, metavar="N", help=f"per figure ({FRAMES}; with --quick {QUICK_FRAMES})"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two minutes: fewer frames, the shipped model in FP16 alone"
    )
    parser.set_defaults(func=_run)


def _run(args: argparse.Namespace) -> int:
    from benchmarks.report.page import render  # before any measurement: a missing library is reported at once

    for model in args.models:
        if not model.is_file():
            raise FaceMeshError(f"{model}: no model file there; check --models, or leave it out for the shipped models")
    if args.face_model is not None and not args.face_model.is_file():
        raise FaceMeshError(f"{args.face_model}: no face model there; 'python -m export face-model' makes one")
    query_device()  # raises an error with the reason if there is none
    _make_folder(args.output)
    report = _Report(args, render)
    try:
        with tempfile.TemporaryDirectory() as folder:
            # Results name files without these folders.
            hidden = [Path(folder), REPOSITORY, *(model.resolve().parent for model in args.models)]
            hidden += [model.parent for model in args.models]
            if args.face_model is not None:
                hidden += [args.face_model.resolve().parent, args.face_model.parent]
            for result in _results(args, Path(folder)):
                report.add(_without_folders(result, hidden))
        report.document["complete"] = True
    finally:
        report.finish()
    print(f"\n{text(report.document)}\n\n{report.json} {report.html}")
    return int(any(part["outcome"] == "failed" for part in report.document["parts"]))


class _Report:
    """The growing document and its two files; the JSON is written after every part, so that no result is lost."""

    def __init__(self, args: argparse.Namespace, render: Callable[[Page], str]) -> None:
        self.json = args.output / "gpu-report.json"
        self.html = args.output / "gpu-report.html"
        self._render = render
        self._watch = Watch()
        self._before = _smi()
        length = {name: value for name, value in asdict(_length(args)).items() if value != math.inf}
        self.document: dict[str, Any] = {
            **provenance(),
            "kind": KIND,
            "format": FORMAT,
            "complete": False,
            "quick": args.quick,
            "effort": length,
            "device": {},
            "driver": None,
            "conditions": {},
            "warnings": [],
            "parts": [],
        }

    def add(self, result: Result) -> None:
        """Add a result; raises `FaceMeshError` for files that cannot be written or a device that cannot be used."""
        if result["name"] == "device":
            if result["outcome"] != "measured":
                raise FaceMeshError(result["reason"])
            self.document["device"] = result["facts"]
        is_measured = result["outcome"] == "measured"
        ending = f"{result['seconds']:.1f} s" if is_measured else f"{result['outcome']}: {result['reason']}"
        print(f"{result['group']}, {result['name']}: {ending}", flush=True)
        self.document["parts"].append({key: value for key, value in result.items() if key != "last"})
        write_json(self.json, self.document)

    def finish(self) -> None:
        """Add the conditions of the machine meanwhile, and write both files."""
        if not self.document["parts"]:
            return
        conditions = self._watch.finish()
        for when, smi in (("before", self._before), ("after", _smi())):
            conditions[when] |= {f"nvidia-smi {name}": value for name, value in smi.items()}
        driver = conditions["after"].get("driver") or self._before.get("driver_version")
        self.document |= {"conditions": conditions, "driver": driver, "warnings": doubts(conditions)}
        write_json(self.json, self.document)
        with whole_file(self.html) as file:
            file.write(self._render(make_page(self.document)).encode())


@dataclass(frozen=True)
class _Effort:
    """Length and limits of all parts."""

    length: dict[str, Any]
    settings: Sequence[str]
    limit_s: float
    build_s: float
    until: float  # no part begins later, by the monotonic clock

    def run(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield the results of tasks."""
        return run_apart(tasks, self.until)


def _effort(args: argparse.Namespace) -> _Effort:
    length = asdict(_length(args))
    if args.quick:
        return _Effort(length, QUICK_SETTINGS, QUICK_PART_S, QUICK_BUILD_S, time.monotonic() + QUICK_REPORT_S)
    return _Effort(length, list(SETTINGS), PART_S, BUILD_S, math.inf)


def _results(args: argparse.Namespace, folder: Path) -> Iterator[Result]:
    """Yield the results of all parts, the most telling first."""
    effort = _effort(args)
    # The device and its libraries.
    libraries: dict[str, list[str]] = {}
    for result in effort.run([Task("Machine", "device", "describe_device", {}, QUICK_PART_S)]):
        libraries = result["facts"].get("libraries", {})
        yield result
    builders = [name for name, modules in libraries.items() if not all(map(_is_lean, modules))]
    # Everything without a network.
    yield gpu_tests(QUICK_TESTS_S if args.quick else TESTS_S)
    tasks = []
    for part in ("copies", "kernels", "launches"):
        tasks.append(Task(part.capitalize(), "all", part, {"length": effort.length}, effort.limit_s))
    yield from effort.run([*tasks, *_frame_tasks(WITHOUT_NETWORK, None, None, effort)])
    # Frames with a network: engines, PyTorch, ONNX Runtime.
    if not builders:
        rtx = "" if is_jetson() else ", or '[rtx]'"
        reason = f"neither TensorRT nor TensorRT-RTX is installed: {remedy('tensorrt')}{rtx}, for frames with an engine"
        yield new_result("Engines", "build", "left out", reason)
    for model in _models(args):
        for library in builders:
            yield from _engine_results(model, args.face_model, library, folder, effort)
    yield from _torch_results(args, folder, effort)
    yield from _detection_results(builders, folder, effort)
    yield from effort.run(_provider_tasks(args, effort))


def _is_lean(module: str) -> bool:
    """Return True for a library that runs engines but builds none."""
    return module.startswith("tensorrt_lean")


def _engine_results(
    model: Path, face_model: Path | None, library: str, folder: Path, effort: _Effort
) -> Iterator[Result]:
    """Yield the results of one model with one library."""
    engine = folder / f"{model.stem}.{library}.engine"
    name = f"{model.stem} with {library}"
    arguments = {"model": str(model), "library": library, "output": str(engine)}
    arguments["face_model"] = None if face_model is None else str(face_model.resolve())
    task = Task("Engines", name, "build", arguments, effort.build_s)
    print(f"building {name}, which may take minutes", flush=True)
    for result in effort.run([task]):
        yield result
        if result["outcome"] == "measured":
            group = f"Frames: {name} {result['facts']['version']}"
            yield from effort.run(_frame_tasks(group, engine, model, effort))


def _detection_results(builders: Sequence[str], folder: Path, effort: _Effort) -> Iterator[Result]:
    """Yield the results of the detector: in engines, and in PyTorch."""
    model = folder / "yunet-640x384-fp16.onnx"
    for result in effort.run([Task(DETECTION, "model", "make_detector", {"output": str(model)}, effort.limit_s)]):
        yield result
        if result["outcome"] != "measured":
            return
    for library in builders:
        engine = folder / f"{model.stem}.{library}.engine"
        name = f"{model.stem} with {library}"
        arguments = {"model": str(model), "library": library, "output": str(engine)}
        for result in effort.run([Task("Engines", name, "build", arguments, effort.build_s)]):
            yield result
            if result["outcome"] == "measured":
                yield from effort.run(_detection_tasks(f"with {library} {result['facts']['version']}", engine, effort))
    yield from effort.run(_detection_tasks("with PyTorch, an upper bound for TensorRT", model, effort))


def _detection_tasks(how: str, engine: Path, effort: _Effort) -> list[Task]:
    which = {"engine": str(engine)}
    group = f"{DETECTION} {how}"
    return [
        Task(group, "check", "detection_check", which, effort.limit_s),
        Task(group, "frames", "detection", {**which, "length": effort.length}, effort.limit_s),
    ]


def _torch_results(args: argparse.Namespace, folder: Path, effort: _Effort) -> Iterator[Result]:
    """Yield the results of the models in PyTorch, whose times are an upper bound for TensorRT's."""
    version = ""
    for result in effort.run([Task("PyTorch", "version", "torch_version", {}, effort.limit_s)]):
        version = result["facts"].get("version", "")
        yield result
    for model in _models(args) if version else []:
        group = f"Frames: {model.stem} with PyTorch {version}, an upper bound for TensorRT"
        if load_spec(model).precision == "int8":
            yield new_result(group, "check", "left out", "PyTorch has no INT8 of this kind; an engine has")
            continue
        placed = _with_face_model(model, args.face_model, folder)
        yield from effort.run(_frame_tasks(group, placed, model, effort))


def _with_face_model(model: Path, face_model: Path | None, folder: Path) -> Path:
    """Return a copy of a model in ``folder`` whose spec names the face model that it needs."""
    spec = load_spec(model)
    if FAMILIES[spec.family].has_face_model:
        spec = with_face_model(spec, model, face_model)
    placed = folder / model.name
    shutil.copyfile(model, placed)
    spec.save(ModelSpec.path_for(placed))
    return placed


def _provider_tasks(args: argparse.Namespace, effort: _Effort) -> list[Task]:
    face_model = None if args.face_model is None else str(args.face_model.resolve())
    tasks = []
    for model, provider in product(_models(args), PROVIDERS):
        arguments = {"model": str(model), "provider": provider, "face_model": face_model, "length": effort.length}
        group = f"Frames: {model.stem} through ONNX Runtime"
        tasks.append(Task(group, provider, "provider_frames", arguments, effort.build_s))
    return tasks


def _frame_tasks(group: str, engine: Path | None, model: Path | None, effort: _Effort) -> list[Task]:
    """Return all measurements of frames with one engine or model, or with None without a network."""
    which = {"engine": engine and str(engine)}
    measured = {**which, "length": effort.length}
    limit_s = effort.limit_s
    return [
        Task(group, "check", "check", {**which, "model": model and str(model)}, limit_s),
        *(Task(group, name, "frames", {**measured, "setting": name}, limit_s) for name in effort.settings),
        Task(group, "newcomers", "newcomers", which, limit_s),
        Task(group, "throughput", "throughput", measured, limit_s),
        Task(group, "host's work", "host_work", measured, limit_s),
        Task(group, "stages", "stages", measured, limit_s),
    ]


def _without_folders(result: Result, folders: list[Path]) -> Result:
    """Return the result with files named without their folders: these may tell the user's name."""

    def shortened(line: str) -> str:
        for folder in (folder for folder in folders if folder.is_absolute()):
            line = line.replace(f"{folder}/", "")
        return line

    return {**result, "reason": shortened(result["reason"]), "notes": list(map(shortened, result["notes"]))}


def _models(args: argparse.Namespace) -> list[Path]:
    half = SHIPPED_MODEL.with_name("edge-fp16.onnx")
    shipped = [half] if args.quick else [half, SHIPPED_MODEL]
    return list(dict.fromkeys(path.resolve() for path in (*shipped, *args.models)))


def _length(args: argparse.Namespace) -> SeriesLength:
    if args.quick:
        return SeriesLength(args.frames or QUICK_FRAMES, QUICK_SECONDS, QUICK_WARM_UP_S)
    return SeriesLength(args.frames or FRAMES, warm_up_s=WARM_UP_S)


def _smi() -> dict[str, str]:
    """Return clocks, power and temperature from nvidia-smi, empty without it.

    The Python package of NVML, for `benchmarks.records.machine`, is not always installed.
    """
    try:
        command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    values = (value.strip() for value in done.stdout.partition("\n")[0].split(","))
    return {name: value for name, value in zip(SMI, values, strict=False) if not value.startswith("[")}  # "[N/A]"


def _make_folder(folder: Path) -> None:
    if not folder.parent.is_dir():
        raise FaceMeshError(f"{folder}: there is no folder {folder.parent}; create it or choose another place with -o")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
