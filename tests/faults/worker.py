"""``python -m tests.faults.worker SCENARIO LIBRARY LANES MOST [KIND:NUMBER …]``, with LIBRARY preloaded.

The command runs once whole; then, in a process of its own for each, with one call that fails: all calls of a kind, or
MOST of them where MOST is not 0. LANES of these run at a time. Prints one JSON document.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import functools
import gc
import hashlib
import json
import operator
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from tests.faults.scenarios import ASSETS, SCENARIOS, Scenario

KINDS = ("open", "read", "write", "rename", "fsync", "memory", "inference", "device")
# Of memory that counts as a buffer. NumPy's own for casts, 8192 values at a time, have up to 128 kB; NumPy 2.4 tells of
# their lack without the interpreter's lock, which ends the process.
LEAST_BYTES = 160 << 10
LANE_BYTES = 64 << 20  # of the files of a lane, at most
LONGEST_S = 120.0
PROJECT = ("runtime", "export", "calibration", "training")
SUMMED = ("tried", "unnoticed", "defects")  # of the lanes' reports


class Calls:
    """The preloaded library."""

    def __init__(self, library: str, folder: Path) -> None:
        self._library = ctypes.CDLL(library)
        self._folders = [ctypes.c_char_p(os.fsencode(path)) for path in (folder, ASSETS)]

    def arm(self, kind: str | None = None, number: int = 0) -> None:
        chosen = -1 if kind is None else KINDS.index(kind)
        self._library.arm(*self._folders, ctypes.c_size_t(LEAST_BYTES), chosen, ctypes.c_long(number))

    def disarm(self) -> None:
        self._library.disarm()

    def counts(self) -> dict[str, int]:
        return {kind: int(self._library.counted(number)) for number, kind in enumerate(KINDS)}

    def fails(self, kind: str) -> bool:
        return bool(self._library.call_fails(KINDS.index(kind)))

    def passing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``real``, in which calls neither count nor fail."""

        @functools.wraps(real)
        def call(*given: Any, **named: Any) -> Any:
            self._library.pause_counting(1)
            try:
                return real(*given, **named)
            finally:
                self._library.pause_counting(-1)

        return call


def let_inference_fail(calls: Calls) -> None:
    """Put a question to ``calls`` before every call of ONNX Runtime."""

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*given: Any, **named: Any) -> Any:
            if calls.fails("inference"):
                raise onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("[ONNXRuntimeError] : 6 : failed")
            return real(*given, **named)

        return call

    for name in ("__init__", "run", "run_with_iobinding", "io_binding"):
        setattr(onnxruntime.InferenceSession, name, failing(getattr(onnxruntime.InferenceSession, name)))


def install_device(calls: Calls) -> None:
    """Make this a machine with TensorRT and a device, stand-ins both, whose calls may fail.

    Their own memory, and their use of ONNX Runtime, does not.
    """
    import runtime.inference.trt.engine_file
    import runtime.inference.trt.runner
    from runtime.cuda.driver import Device
    from runtime.cuda.errors import CudaError
    from tests.standins import fake_cuda, fake_engine

    class FailingCuda(fake_cuda.FakeCuda):
        def called(self, call: str, **details: Any) -> None:
            super().called(call, **details)
            if calls.fails("device"):
                raise CudaError(call, "CUDA_ERROR_OUT_OF_MEMORY")

    cuda = FailingCuda()
    library = fake_engine.make("tensorrt-10.3", cuda)
    for name in fake_engine.MODULES.values():
        sys.modules[name] = library if name == library.__name__ else None
    for owner in (*vars(library).values(), *vars(fake_cuda).values()):
        if isinstance(owner, type) and owner.__module__.startswith("tests.standins"):
            let_pass(calls, owner)
    runtime.inference.trt.engine_file.find_device = lambda: Device("Orin", "8.7")
    runtime.inference.trt.runner.open_cuda = lambda *_, **__: cuda


def let_pass(calls: Calls, owner: type) -> None:
    """Let all methods of a stand-in pass but ``capture``, which calls what it is given."""
    for name, member in list(vars(owner).items()):
        if isinstance(member, types.FunctionType) and name != "capture":
            setattr(owner, name, calls.passing(member))


@functools.cache
def caches() -> list[Any]:
    """Return what remembers results in this project; the garbage collector leaves all there is now alone."""
    tracked = [item for item in gc.get_objects() if type(item) is functools._lru_cache_wrapper]
    gc.freeze()  # a process that is forked copies every page that it visits
    return [cached for cached in tracked if cached.__module__.startswith(PROJECT)]


def run_apart(scenario: Scenario, given: Path, made: Path, before: Callable[[], None], after: Callable[[], None]):
    """Run in a process of its own; return exit code (negative: signal, None: it took too long) and what it said."""
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    end, start = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.dup2(start, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            faulthandler.enable(os.dup(2), all_threads=False)  # libraries are quietened on the other one
            for cached in caches():
                cached.cache_clear()
            before()
            code = scenario.run(given, made)
            after()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(code)
    os.close(start)
    said, code = _wait(child, end)
    os.close(end)
    return code, said


def _wait(child: int, end: int) -> tuple[str, int | None]:
    said, deadline = b"", time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        if select.select([end], [], [], 1.0)[0]:
            block = os.read(end, 1 << 16)
            said += block
            if not block:
                break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return said.decode("utf-8", "replace"), None
    return said.decode("utf-8", "replace"), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def fault_of(code: int | None, said: str, made: dict[str, bytes], whole: dict[str, bytes]) -> str | None:
    """Return what is wrong after a run in which a call failed, None if nothing is."""
    if code is None:
        return "hangs"
    if code < 0:
        return f"ended by signal {-code}"
    if "Traceback" in said:
        return "traceback"
    if left := set(made) - set(whole):
        return f"left over: {', '.join(sorted(left))}"
    is_another_model = "warning: " in said and _is_whole_model(made)  # without a rewrite that could not be judged
    if code == 0 and made != whole and not is_another_model:
        missing = [name for name in whole if made.get(name) != whole[name]]
        return f"exit code 0 without {', '.join(missing)}"
    torn = [name for name, content in made.items() if not _is_part_of(name, content, whole[name])]
    if torn and not is_another_model:
        return f"torn: {', '.join(torn)}"
    if code != 0 and not any(": " in line for line in said.splitlines()):
        return "no line names the reason"
    return None


def _is_part_of(name: str, content: bytes, whole: bytes) -> bool:
    """Tell whether results of a run are those of all or of some of its pictures, whole."""
    if content == whole:
        return True
    if name.endswith((".jsonl", ".csv")):
        lines, wanted = content.splitlines(keepends=True), whole.splitlines(keepends=True)
        if set(lines) <= set(wanted):
            return True
        # Without one frame of a film the tracks of the others differ.
        keys = json.loads(wanted[0]).keys() if name.endswith(".jsonl") else ()
        return bool(keys) and all(json.loads(line).keys() == keys for line in lines)
    if name.endswith(".mp4"):
        return _film_length(content) is not None
    if name == "faces.npz":
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(content)
            with np.load(file.name) as arrays:
                return len(arrays["vertices"]) == len(arrays["frame"])
    return False


def _is_whole_model(made: dict[str, bytes]) -> bool:
    digest = hashlib.sha256(made.get("model.onnx", b"")).hexdigest()
    return digest.encode() in made.get("model.onnx.json", b"")


def _film_length(content: bytes) -> int | None:
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        Path(file.name).write_bytes(content)
        film = cv2.VideoCapture(file.name)
        promised, read = int(film.get(cv2.CAP_PROP_FRAME_COUNT)), 0
        while film.read()[0]:
            read += 1
        return read if read == promised > 0 else None


def chosen_points(counts: dict[str, int], most: int, only: list[str]) -> list[tuple[str, int]]:
    """Return (kind, number) of the calls to fail; ``only`` names kinds or points such as ``read:3``."""
    points = []
    for kind, count in counts.items():
        numbers = range(1, count + 1)
        if most:
            numbers = sorted({1 + round(step) for step in np.linspace(0, count - 1, most)}) if count else []
        points += [(kind, number) for number in numbers if not only or {kind, f"{kind}:{number}"} & {*only}]
    return points


def run_lane(
    calls: Calls, scenario: Scenario, folder: Path, most: int, only: list[str], share: slice
) -> dict[str, Any]:
    """Let a share of the calls fail, one after the other; return the report. ``folder`` is this lane's own."""
    given, made = folder / "given", folder / "made"
    given.mkdir(parents=True)
    made.mkdir()
    scenario.prepare(given)

    # Count the calls of a run in which none fails.
    def save_counts() -> None:
        calls.disarm()
        (folder / "counts").write_text(json.dumps(calls.counts()))

    code, said = run_apart(scenario, given, made, calls.arm, save_counts)
    assert code == 0, said
    counts, whole = json.loads((folder / "counts").read_text()), contents(made)
    report: dict[str, Any] = {"counts": counts, "tried": 0, "unnoticed": 0, "defects": []}

    # Let them fail.
    for kind, number in chosen_points(counts, most, only)[share]:
        point = f"{kind}:{number}"
        code, said = run_apart(scenario, given, made, functools.partial(calls.arm, kind, number), lambda: None)
        report["tried"] += 1
        report["unnoticed"] += code == 0
        if fault := fault_of(code, said, contents(made), whole):
            report["defects"].append([point, fault, said[-3000:]])
            print(f"{point}: {fault} (exit code {code})", file=sys.stderr, flush=True)
    return report


def side_by_side(work: Callable[[int], dict[str, Any]], folder: Path, lanes: int) -> list[dict[str, Any]]:
    """Return what ``work`` returns for each lane, all of them at a time, each in a process of its own."""
    children = []
    for lane in range(lanes):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                (folder / f"report{lane}").write_text(json.dumps(work(lane)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise SystemExit(f"lanes ended with {codes}")
    return [json.loads((folder / f"report{lane}").read_text()) for lane in range(lanes)]


def folder_in_memory(size: int) -> Path | None:
    """Return a folder that is no disk, which would be waited for, if it has room for ``size`` bytes."""
    folder = Path("/dev/shm")
    return folder if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > size else None


def main() -> int:
    """Run one scenario; return the exit code."""
    name, library, lanes, most, *only = sys.argv[1:]
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory(dir=folder_in_memory(LANE_BYTES * (int(lanes) + 1))) as text:
        folder = Path(os.path.realpath(text))
        given, reference = folder / "given", folder / "reference"
        given.mkdir()
        reference.mkdir()
        scenario.prepare(given)
        calls = Calls(library, folder)
        let_inference_fail(calls)
        if name == "engine":
            install_device(calls)
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
            code = scenario.run(given, reference)  # imports everything
        if code != 0:
            raise SystemExit(f"{name}: the run without a failure ends with {code}")
        caches()

        def work(lane: int) -> dict[str, Any]:
            share = slice(lane, None, int(lanes))
            return run_lane(calls, scenario, folder / f"lane{lane}", int(most), only, share)

        reports = side_by_side(work, folder, int(lanes))
        sums = {key: functools.reduce(operator.add, (report[key] for report in reports)) for key in SUMMED}
        print(json.dumps({"scenario": name, "counts": reports[0]["counts"], **sums}))
        return 0


if __name__ == "__main__":
    sys.exit(main())
