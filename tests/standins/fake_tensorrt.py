"""A stand-in for ``tensorrt`` on machines without a GPU: `make` returns the module of one version.

It has the attributes of the real classes of that version, by ``tests/export/engines/tensorrt_api.txt``, and raises
AttributeError for every other one. So the use of an attribute that 11 removed, or that 8.6 lacks, fails here as it
would there. It computes nothing: it keeps the calls in ``calls``.
"""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any

import onnx

from tests.export.engines.introspect_tensorrt import read_table

UNSUPPORTED_OPERATOR = "Det"
STEPS = 3  # of a build
PLAN = b"plan of the stand-in"
LAYER_TYPES = {
    "Constant": "CONSTANT",
    "Cast": "CAST",
    "Shape": "SHAPE",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
}


def make(label: str, version: str) -> Any:
    """Return the module of ``label``, a column of the table.

    It has ``calls``, pairs of a method or assigned attribute and the arguments; ``asked(name)``, the arguments of one
    of them; and ``failing``: "start" or "build" makes that step fail.
    """
    names = read_table()[label]
    trt: Any = ModuleType("tensorrt")
    calls: list[tuple[str, Any]] = []

    class Strict:
        """Has the public attributes that the real class has; assigning one is a call."""

        def __getattribute__(self, name: str) -> Any:
            kind = type(self).__name__
            if not name.startswith("_") and f"{kind}.{name}" not in names:
                raise AttributeError(f"{kind} of {label} has no attribute {name!r}")
            return object.__getattribute__(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            kind = type(self).__name__
            if not name.startswith("_"):
                if f"{kind}.{name}" not in names:
                    raise AttributeError(f"{kind} of {label} has no attribute {name!r}")
                calls.append((f"{kind}.{name}", value))
            object.__setattr__(self, name, value)

    class ILogger:
        Severity = enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO VERBOSE", start=0)

    class IProgressMonitor:
        pass

    class ITensor(Strict):
        def __init__(self, name: str) -> None:
            self._name = name

        name = property(lambda self: self._name)

    class ILayer(Strict):
        def __init__(self, node: onnx.NodeProto) -> None:
            self._node = node

        type = property(lambda self: getattr(trt.LayerType, LAYER_TYPES.get(self._node.op_type, "CONVOLUTION")))
        num_inputs = property(lambda self: len(self._node.input))
        num_outputs = property(lambda self: len(self._node.output))

        def get_input(self, index: int) -> ITensor:
            return ITensor(self._node.input[index])

        def get_output(self, index: int) -> ITensor:
            return ITensor(self._node.output[index])

        def set_output_type(self, index: int, kind: Any) -> None:
            calls.append(("ILayer.set_output_type", (self._node.output[index], kind.name)))

    class INetworkDefinition(Strict):
        def __init__(self) -> None:
            self._layers: list[ILayer] = []

        num_layers = property(lambda self: len(self._layers))

        def get_layer(self, index: int) -> ILayer:
            return self._layers[index]

    class ParserError(Strict):
        def __init__(self, index: int) -> None:
            self._index = index

        def node(self) -> int:
            return self._index

        def desc(self) -> str:
            return "no importer\nfor this operator"

        def file(self) -> str:
            return "ModelImporter.cpp"

        def line(self) -> int:
            return 7

        def func(self) -> str:
            return "parseNode"

    class OnnxParser(Strict):
        def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
            self._network, self._errors = network, []

        num_errors = property(lambda self: len(self._errors))

        def parse(self, model: bytes) -> bool:
            nodes = onnx.load_model_from_string(model).graph.node
            self._errors = [
                ParserError(index) for index, node in enumerate(nodes) if node.op_type == UNSUPPORTED_OPERATOR
            ]
            self._network._layers = [ILayer(node) for node in nodes]
            return not self._errors

        def get_error(self, index: int) -> ParserError:
            return self._errors[index]

    class IOptimizationProfile(Strict):
        def set_shape(self, *shapes: Any) -> None:
            calls.append(("IOptimizationProfile.set_shape", shapes))

    class ITimingCache(Strict):
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> bytes:
            return self._content + b"measured"

    class IBuilderConfig(Strict):
        progress_monitor = None

        def set_flag(self, flag: Any) -> None:
            calls.append(("set_flag", flag.name))

        def set_preview_feature(self, feature: Any, enable: bool) -> None:
            calls.append(("set_preview_feature", (feature.name, enable)))

        def clear_flag(self, flag: Any) -> None:
            calls.append(("clear_flag", flag.name))

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            return 0

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            calls.append(("set_memory_pool_limit", (pool.name, size)))

        def create_timing_cache(self, content: bytes) -> ITimingCache:
            return ITimingCache(content)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            return cache._content in (b"", b"measured")

    class Builder(Strict):
        num_DLA_cores = 2

        def __init__(self, logger: Any) -> None:
            if trt.failing == "start":
                logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
                raise TypeError("factory function returned nullptr")
            self._logger = logger

        def create_network(self, flags: int) -> INetworkDefinition:
            calls.append(("create_network", flags))
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
            self._logger.log(ILogger.Severity.WARNING, "a layer falls back to the GPU")
            monitor = config.progress_monitor if "IProgressMonitor" in names else None
            if monitor is not None:
                monitor.phase_start("Building engine", None, STEPS)
                if not all(monitor.step_complete("Building engine", step) for step in range(STEPS)):
                    return None
                monitor.phase_finish("Building engine")
            if trt.failing == "build":
                self._logger.log(ILogger.Severity.ERROR, "Could not find any implementation\nfor node c2")
                return None
            return PLAN

    classes = (
        ILogger,
        IProgressMonitor,
        ITensor,
        ILayer,
        INetworkDefinition,
        ParserError,
        OnnxParser,
        IOptimizationProfile,
        ITimingCache,
    )
    for cls in (*classes, IBuilderConfig, Builder):
        if cls.__name__ in names:
            setattr(trt, cls.__name__, cls)
    for name in (
        "BuilderFlag",
        "PreviewFeature",
        "NetworkDefinitionCreationFlag",
        "MemoryPoolType",
        "DeviceType",
        "DataType",
        "LayerType",
        "HardwareCompatibilityLevel",
    ):
        members = [entry.partition(".")[2] for entry in sorted(names) if entry.startswith(f"{name}.")]
        setattr(trt, name, enum.IntEnum(name, members, start=0))
    trt.__version__, trt.calls, trt.failing = version, calls, ""
    trt.asked = lambda call: [value for name, value in calls if name == call]
    trt.Strict, trt.names = Strict, names  # for the half that runs engines, in tests/standins/fake_engine.py
    return trt
