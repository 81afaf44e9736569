"""What TensorRT and TensorRT-RTX say through their loggers, which have one API: kept until it is known whether it matters."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

from runtime.errors import FaceMeshError


class Messages:
    """What the library's logger says: errors for when a step fails, warnings for the end. Called from several threads."""

    def __init__(self) -> None:
        self._errors: dict[str, None] = {}  # in order, each once
        self._warnings: dict[str, None] = {}

    def add(self, severity: str, text: str) -> None:
        text = " ".join(text.split())
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self._errors[text] = None
        elif severity == "WARNING":
            self._warnings[text] = None

    def forget(self) -> None:
        """What was said before a step that has worked is no error of the next one."""
        self._errors.clear()

    def reasons(self) -> str:
        """The errors since `forget`, in one line."""
        return "; ".join(self._errors) or "the library gives no reason"

    def failure(self, what: str) -> FaceMeshError:
        """The error of a step that failed, with all that the library said of it."""
        return FaceMeshError(f"{what}: {self.reasons()}")

    def warnings(self) -> list[str]:
        return list(self._warnings)


_LOGGERS: dict[ModuleType, Any] = {}


def logger_for(trt: ModuleType, messages: Messages) -> Any:
    """The ``ILogger`` of the library ``trt``, which from now on passes on to ``messages`` too, as long as these live.

    A process has one, never freed: as long as it has any object, a library speaks through the first logger that it was given (gone or not) and warns
    of every other one. What it says does not tell of which object, so all that listen hear it.
    """
    if trt not in _LOGGERS:
        _LOGGERS[trt] = _make_logger(trt)
    _LOGGERS[trt].listen(messages)
    return _LOGGERS[trt]


def _make_logger(trt: ModuleType) -> Any:
    class Logger(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._listeners: tuple[weakref.ref[Messages], ...] = ()  # replaced and never changed: the library's threads go through it

        def listen(self, messages: Messages) -> None:
            self._listeners = (*(each for each in self._listeners if each() is not None), weakref.ref(messages))

        def log(self, severity: Any, text: str) -> None:
            for listener in self._listeners:
                if (messages := listener()) is not None:
                    messages.add(severity.name, text)

    return Logger()
