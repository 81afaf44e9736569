"""Steps of building an engine that all versions of TensorRT and TensorRT-RTX have in common.

The functions take the library as ``trt``; their home modules `export.engines.tensorrt_builder` and
`export.engines.rtx_builder` add what differs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runtime.cuda.driver import Device
from runtime.errors import FaceMeshError
from runtime.inference.trt.messages import Messages

if TYPE_CHECKING:
    from export.engines.engine_source import EngineSource


@dataclass(frozen=True)
class EngineOptions:
    """The options of ``python -m export engine``; None leaves a matter to the library."""

    library: str = "tensorrt"  # one of `runtime.models.manifest.LIBRARIES`
    batch: tuple[int, int, int] | None = None  # smallest, fastest, largest; None: that of the model, or 1 1 8
    timing_cache: Path | None = None
    workspace_mib: int | None = None
    opt_level: int | None = None  # 0..5
    dla_core: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine and its facts for the manifest, see `runtime.models.manifest.EngineManifest`."""

    plan: memoryview
    version: str
    compute_capabilities: tuple[str, ...]
    device: Device | None  # that it was built on; None: built without one
    fits_all_sizes: bool = False  # devices with more or fewer multiprocessors run it as well


class Progress:
    """The phases of a build as a bar on stderr; ``cancelled`` set makes the library stop at the next step."""

    def __init__(self) -> None:
        self.cancelled = False
        self._bar: Any = None
        self._outermost = ""
        self._steps: dict[str, int] = {}  # of every phase

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        from runtime.console.progress import counting_bar

        self._steps[phase] = steps
        if parent is None:
            self.close()
            self._bar, self._outermost = counting_bar(steps, phase), phase

    def step(self, phase: str, number: int) -> bool:
        """Return True to go on.

        The bar counts the steps of the outermost phase and tells where the phase within it is.
        """
        if self._bar is not None:
            if phase != self._outermost:
                self._bar.set_postfix_str(f"{phase} {number + 1}/{self._steps.get(phase, '?')}", refresh=False)
            self._bar.update(phase == self._outermost)
        return not self.cancelled

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def print_warnings(messages: Messages, library: str) -> None:
    """Print the library's warnings at the end of a build."""
    from runtime.console.progress import print_above_bar

    for text in messages.warnings():
        print_above_bar(f"warning: {library}: {text}")


def new_monitor(trt: ModuleType, progress: Progress) -> Any:
    """An ``IProgressMonitor`` that passes everything on to ``progress``."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()


def parse(
    trt: ModuleType, builder: Any, flags: int, source: EngineSource, logger: Any, messages: Messages
) -> tuple[Any, Any]:
    """Return the library's network and its parser; the parser must live longer.

    Raises `FaceMeshError` with every error and its node.
    """
    messages.forget()
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(source.data):
        what = f"{source.path}: {trt.__name__} {trt.__version__} cannot take this network"
        faults = [_fault(source, parser.get_error(index)) for index in range(parser.num_errors)]
        raise FaceMeshError(f"{what}: {'; '.join(faults)}") if faults else messages.failure(what)
    return network, parser


def add_profile(
    builder: Any, config: Any, source: EngineSource, batch: tuple[int, int, int], messages: Messages
) -> None:
    """Tell the library the batch sizes of a dynamic input."""
    given = source.spec.input
    profile = builder.create_optimization_profile()
    profile.set_shape(given.name, *((number, *given.shape) for number in batch))
    if config.add_optimization_profile(profile) < 0:
        raise messages.failure(f"{source.path}: --batch {' '.join(map(str, batch))} is refused")


def run_build(
    source: EngineSource, builder: Any, network: Any, config: Any, messages: Messages, progress: Progress
) -> memoryview:
    """The serialised engine. Ctrl-C makes the library stop at its next step and goes on as `KeyboardInterrupt`."""
    from runtime.console.progress import print_above_bar

    messages.forget()
    try:
        # In a thread of its own, so that the signal reaches Python while the library works, never inside a callback.
        with ThreadPoolExecutor(1) as pool:
            try:
                plan = pool.submit(builder.build_serialized_network, network, config).result()
            except KeyboardInterrupt:
                progress.cancelled = True
                print_above_bar("stopping at the next step of the build …")
                raise
    finally:
        progress.close()
    if plan is None:
        raise messages.failure(f"{source.path}: the engine could not be built")
    return memoryview(plan)


def guarded_builder(trt: ModuleType, logger: Any, messages: Messages) -> Any:
    """Make a ``trt.Builder``; it fails if the driver or the device is missing."""
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # pybind11: the factory gave nothing
        raise messages.failure(f"{trt.__name__} {trt.__version__} does not start here ({error})") from error


def _fault(source: EngineSource, fault: Any) -> str:
    """Return one line on a parser error, with the node's name from the ONNX file: the parser of 8.6 gives a number."""
    where, nodes = "the graph", source.model.graph.node
    if 0 <= fault.node() < len(nodes):
        node = nodes[fault.node()]
        where = f"node {node.name or fault.node()} ({node.op_type})"
    return f"{where}: {' '.join(fault.desc().split())} [{fault.file()}:{fault.line()} {fault.func()}]"
