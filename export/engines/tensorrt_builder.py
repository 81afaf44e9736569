"""Engines of TensorRT 8.6, 10 and 11. Home of ``tensorrt`` for building.

From 10 on networks are strongly typed: every tensor has the type that the ONNX file gives it. 8.6 has no such mode;
there the precision flags are those of the types that the file holds, and every layer is held to its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorrt as trt

from export.engines.build_steps import (
    BuiltEngine,
    EngineOptions,
    Progress,
    add_profile,
    guarded_builder,
    new_monitor,
    parse,
    print_warnings,
    run_build,
)
from export.engines.engine_source import EngineSource, float_types
from runtime.cuda.driver import find_device
from runtime.errors import FaceMeshError
from runtime.inference.trt.messages import Messages, logger_for
from runtime.storage.bounded_files import read_bounded
from runtime.storage.whole_files import whole_file

VERSION = str(trt.__version__)
OLDEST = (8, 6)


def build(source: EngineSource, options: EngineOptions) -> BuiltEngine:
    """Build for the first CUDA device of this machine. Raises `FaceMeshError`, and `KeyboardInterrupt` on Ctrl-C."""
    if (found := tuple(map(int, VERSION.split(".")[:2]))) < OLDEST:
        raise FaceMeshError(f"TensorRT {VERSION} is too old; 8.6, 10 and 11 are supported")
    device = find_device()
    if device is None:
        raise FaceMeshError("no CUDA device is found here; TensorRT builds an engine on the device that will run it")
    messages, progress = Messages(), Progress()
    logger = logger_for(trt, messages)
    builder = guarded_builder(trt, logger, messages)
    network, _parser = parse(trt, builder, _network_flags(found[0]), source, logger, messages)
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is FP32, not 10 bits of mantissa; who wants less takes an FP16 model
    if found[0] == 8:
        _type_weak_network(config, network, source)
        # The runtime has several contexts of an engine, which from 10 on may always share a profile.
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if source.batch is None:
        add_profile(builder, config, source, options.batch, messages)
    cache = _configure(config, builder, options, source.spec.precision, messages)
    monitor = new_monitor(trt, progress) if found[0] > 8 else None
    if monitor is not None:
        config.progress_monitor = monitor
    plan = run_build(source, builder, network, config, messages, progress)
    if options.timing_cache is not None:
        with whole_file(options.timing_cache) as file:
            file.write(memoryview(cache.serialize()))
    print_warnings(messages, "TensorRT")
    return BuiltEngine(
        plan=plan,
        version=VERSION + "+" * options.version_compatible,
        compute_capabilities=("8.0+",) if options.hardware_compatible else (device.compute_capability,),
        device=device,
        fits_all_sizes=options.hardware_compatible,
    )


def _network_flags(major: int) -> int:
    """Flags of ``create_network``: 11 knows strongly typed networks alone."""
    if major >= 11:
        return 0
    flag = (
        trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        if major > 8
        else trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    )
    return 1 << int(flag)


def _configure(config: Any, builder: Any, options: EngineOptions, precision: str, messages: Messages) -> Any:
    """Apply the options; return the timing cache, None without one."""
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.dla_core is not None:
        _use_dla(config, builder, options.dla_core, options.batch, precision)
    return None if options.timing_cache is None else _load_cache(config, options.timing_cache, messages)


def _use_dla(config: Any, builder: Any, core: int, batch: tuple[int, int, int], precision: str) -> None:
    if precision != "fp16":
        problem = f"the DLA takes no tensors in FP32 and no Q/DQ nodes, so of a model in {precision} nothing runs there"
        raise FaceMeshError(f"--dla-core: {problem}; export it with --precision fp16")
    if not 0 <= core < builder.num_DLA_cores:
        raise FaceMeshError(
            f"--dla-core {core}: this device has {builder.num_DLA_cores} DLA cores for TensorRT {VERSION}"
        )
    if len({*batch}) > 1:
        raise FaceMeshError(
            f"--dla-core: the DLA takes one batch size alone, give --batch {batch[1]} {batch[1]} {batch[1]}"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _load_cache(config: Any, path: Path, messages: Messages) -> Any:
    """Read the timing cache of earlier builds; a missing file is an empty one."""
    try:
        content = read_bounded(path)
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise FaceMeshError(
            f"{path}: the timing cache cannot be read ({error.strerror}); choose another file for --timing-cache"
        ) from None
    messages.forget()
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        raise messages.failure(f"{path}: no timing cache of TensorRT {VERSION} on this device, remove it")
    return cache


def _type_weak_network(config: Any, network: Any, source: EngineSource) -> None:
    """Imitate strong typing of 10 on 8.6: allow the ONNX file's precisions, and hold every layer to its type there.

    Layers that work on whole numbers and shapes keep what they have, and so does what is quantised, where Q/DQ nodes
    decide.
    """
    types = float_types(source.model)
    if source.spec.precision == "int8":
        config.set_flag(trt.BuilderFlag.INT8)
    if "fp16" in types.values():
        config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    dequantised = {
        name for node in source.model.graph.node if node.op_type == "DequantizeLinear" for name in node.output
    }
    left_alone = (
        trt.LayerType.CONSTANT,
        trt.LayerType.CAST,
        trt.LayerType.SHAPE,
        trt.LayerType.QUANTIZE,
        trt.LayerType.DEQUANTIZE,
    )
    precisions = {"fp16": trt.DataType.HALF, "fp32": trt.DataType.FLOAT}
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        inputs = [layer.get_input(index) for index in range(layer.num_inputs)]
        kind = types.get(layer.get_output(0).name)
        if (
            layer.type in left_alone
            or kind is None
            or any(tensor is not None and tensor.name in dequantised for tensor in inputs)
        ):
            continue
        layer.precision = precisions[kind]
        for index in range(layer.num_outputs):
            layer.set_output_type(index, precisions[kind])
