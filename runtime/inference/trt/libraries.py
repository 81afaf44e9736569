"""Choose the installed inference library for an engine."""

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
    """Return the installed modules for ``library``, one of `runtime.models.manifest.LIBRARIES`.

    A module that is installed but does not load counts as missing.
    """
    found = []
    for name in MODULES[library]:
        try:
            found.append(importlib.import_module(name))
        except (ImportError, OSError):
            continue
    return found


def choose(manifest: EngineManifest, device: Device | None) -> tuple[ModuleType | None, str | None]:
    """Choose the module that runs an engine on a device.

    Returns (module, None), or (None or the nearest module, the reason why it does not run the engine).
    """
    modules = [
        module
        for module in installed(manifest.library)
        if module.__name__ != "tensorrt_lean" or manifest.version_compatible
    ]
    reasons = {module: manifest.why_not(str(module.__version__), device) for module in modules}
    if fitting := [module for module, reason in reasons.items() if reason is None]:
        return fitting[0], None
    return next(iter(reasons.items()), (None, manifest.why_not(None, device)))
