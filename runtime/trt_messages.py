"""What TensorRT and TensorRT-RTX say through their loggers, which have one API: kept until it is known whether it matters."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from runtime.errors import FaceMeshError


class Messages:
    """What the library's logger says: errors for when a step fails, warnings for the end. Called from several threads."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._warnings: dict[str, None] = {}  # in order, each once

    def add(self, severity: str, text: str) -> None:
        text = " ".join(text.split())
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors.append(text)
        elif severity == "WARNING":
            self._warnings[text] = None

    def forget(self) -> None:
        """What was said before a step that has worked is no error of the next one."""
        self._errors.clear()

    def reasons(self) -> str:
        """The errors since `forget`, in one line."""
        return "; ".join(dict.fromkeys(self._errors)) or "the library gives no reason"

    def failure(self, what: str) -> FaceMeshError:
        """The error of a step that failed, with all that the library said of it."""
        return FaceMeshError(f"{what}: {self.reasons()}")

    def warnings(self) -> list[str]:
        return list(self._warnings)


def new_logger(trt: ModuleType, messages: Messages) -> Any:
    """An ``ILogger`` of the library ``trt`` that passes everything on to ``messages``."""

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            messages.add(severity.name, text)

    return Logger()
