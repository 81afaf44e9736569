"""Engines of TensorRT-RTX, built ahead of time on any machine, with a GPU or without.

Home of ``tensorrt_rtx`` for building.
"""

from __future__ import annotations

import tensorrt_rtx as trt

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
from export.engines.engine_source import EngineSource
from runtime.errors import FaceMeshError
from runtime.inference.trt.messages import Messages, logger_for

VERSION = str(trt.__version__)
# Turing is not among the targets unless it is the only one, and then FP32 matrix products do not compile.
TURING = "SM75"


def build(source: EngineSource, options: EngineOptions) -> BuiltEngine:
    """Build for all GPUs that TensorRT-RTX targets by default: Ampere and newer.

    Raises `FaceMeshError`, and `KeyboardInterrupt` on Ctrl-C.
    """
    _refuse_foreign_options(options)
    messages, progress = Messages(), Progress()
    logger = logger_for(trt, messages)
    builder = guarded_builder(trt, logger, messages)
    network, _parser = parse(
        trt, builder, 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED), source, logger, messages
    )
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is FP32, not 10 bits of mantissa; who wants less takes an FP16 model
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # or the runtime could capture no graph
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if source.batch is None:
        add_profile(builder, config, source, options.batch, messages)
    monitor = new_monitor(trt, progress)
    config.progress_monitor = monitor
    plan = run_build(source, builder, network, config, messages, progress)
    print_warnings(messages, "TensorRT-RTX")
    return BuiltEngine(plan=plan, version=VERSION, compute_capabilities=_default_targets(), device=None)


def _default_targets() -> tuple[str, ...]:
    """("8.0", "8.6", … "12.1")"""
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM") and name != TURING]
    return tuple(f"{name[2:-1]}.{name[-1]}" for name in names)


def _refuse_foreign_options(options: EngineOptions) -> None:
    """Refuse options of TensorRT that the API carries but ignores or fails on: an error and not a silence."""
    targets = ", ".join(_default_targets())
    reasons = (
        ("--timing-cache", options.timing_cache is not None, "it times nothing while it builds"),
        ("--opt-level", options.opt_level is not None, "it optimises on the device, at the first run"),
        ("--dla-core", options.dla_core is not None, "it knows GPUs alone"),
        (
            "--hardware-compat",
            options.hardware_compatible,
            f"its engines run on compute capability {targets} as they are",
        ),
        ("--version-compatible", options.version_compatible, "its engines fit the version that built them alone"),
    )
    for option, is_asked, reason in reasons:
        if is_asked:
            raise FaceMeshError(f"TensorRT-RTX has no {option}: {reason}; leave it out, or take --backend tensorrt")
