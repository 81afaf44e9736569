"""Messages of TensorRT's and TensorRT-RTX's loggers, kept until a step fails or the engine is open."""

from __future__ import annotations

import weakref
from types import ModuleType
from typing import Any

from runtime.errors import FaceMeshError


class Messages:
    """Errors and warnings of a library's logger. Several threads may add to them."""

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
        """Drop the errors: a step that worked has none for the next one."""
        self._errors.clear()

    def reasons(self) -> str:
        """Return the errors since `forget` in one line."""
        return "; ".join(self._errors) or "the library gives no reason"

    def failure(self, what: str) -> FaceMeshError:
        """Return the error of a failed step with the library's reasons."""
        return FaceMeshError(f"{what}: {self.reasons()}")

    def warnings(self) -> list[str]:
        return list(self._warnings)


_LOGGERS: dict[ModuleType, Any] = {}


def logger_for(trt: ModuleType, messages: Messages) -> Any:
    """Return the ``ILogger`` of the library ``trt``; it forwards every message to ``messages`` too while these live.

    TensorRT keeps the first logger it is given until the process ends and warns of every other one. So there is one per
    library, and it forwards every message to all live `Messages`: a message does not name its object.
    """
    if trt not in _LOGGERS:
        _LOGGERS[trt] = _make_logger(trt)
    _LOGGERS[trt].listen(messages)
    return _LOGGERS[trt]


def _make_logger(trt: ModuleType) -> Any:
    class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._listeners: tuple[
                weakref.ref[Messages], ...
            ] = ()  # replaced and never changed: the library's threads go through it

        def listen(self, messages: Messages) -> None:
            self._listeners = (*(each for each in self._listeners if each() is not None), weakref.ref(messages))

        def log(self, severity: Any, text: str) -> None:
            for listener in self._listeners:
                if (messages := listener()) is not None:
                    messages.add(severity.name, text)

    return Logger()
