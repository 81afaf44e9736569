"""Choose the installed inference library for an engine."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from runtime.cuda.driver import Device
from runtime.errors import reason as cause
from runtime.models.manifest import EngineManifest

# Library of a manifest -> the modules that run its engines, the most able first.
MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_lean"),
    "tensorrt-rtx": ("tensorrt_rtx",),
}


def installed(library: str) -> list[ModuleType]:
    """Return the modules that load for ``library``, one of `runtime.models.manifest.LIBRARIES`."""
    return _split(MODULES[library])[0]


def fault(library: str) -> str | None:
    """Return why a module for ``library`` that is installed does not load; None: none is, or all do."""
    return _split(MODULES[library])[1]


def choose(manifest: EngineManifest, device: Device | None) -> tuple[ModuleType | None, str | None]:
    """Choose the module that runs an engine on a device.

    Returns (module, None), or (None or the nearest module, the reason why it does not run the engine).
    """
    names = [name for name in MODULES[manifest.library] if name != "tensorrt_lean" or manifest.version_compatible]
    modules, broken = _split(names)
    reasons = {module: manifest.why_not(str(module.__version__), device) for module in modules}
    if fitting := [module for module, reason in reasons.items() if reason is None]:
        return fitting[0], None
    return next(iter(reasons.items()), (None, manifest.why_not(None, device, broken)))


def _split(names: Sequence[str]) -> tuple[list[ModuleType], str | None]:
    """Import modules; return those that load, and why the first that is installed does not."""
    found: list[ModuleType] = []
    broken = None
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except (ImportError, OSError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                continue
            broken = broken or f"{name} is installed here but does not load ({cause(error)})"
    return found, broken
