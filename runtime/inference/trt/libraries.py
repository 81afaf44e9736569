"""Which of the inference libraries that are installed here runs an engine."""

from __future__ import annotations

import importlib
from types import ModuleType

from runtime.cuda.driver import Device
from runtime.models.manifest import EngineManifest

# Library of a manifest -> the modules that run its engines, the most able first.
MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_lean"),
    "tensorrt-rtx": ("tensorrt_rtx",),
}


def installed(library: str) -> list[ModuleType]:
    """The modules here that run engines of ``library``, one of `runtime.models.manifest.LIBRARIES`; what does not load is as good as not there."""
    found = []
    for name in MODULES[library]:
        try:
            found.append(importlib.import_module(name))
        except (ImportError, OSError):
            continue
    return found


def choose(manifest: EngineManifest, device: Device | None) -> tuple[ModuleType | None, str | None]:
    """The module that runs this engine on this device and None, or None or the module that comes nearest and the reason why it does not."""
    modules = [module for module in installed(manifest.library) if module.__name__ != "tensorrt_lean" or manifest.version_compatible]
    reasons = {module: manifest.why_not(str(module.__version__), device) for module in modules}
    if fitting := [module for module, reason in reasons.items() if reason is None]:
        return fitting[0], None
    return next(iter(reasons.items()), (None, manifest.why_not(None, device)))
