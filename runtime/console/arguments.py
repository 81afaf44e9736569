"""Types of command-line arguments, for `argparse`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path


def some_path(text: str) -> Path:
    """Convert a path, which an unset variable of a shell is not."""
    return Path(not_empty(text))


def positive_int(text: str) -> int:
    """Convert a whole number from 1."""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, is {text!r}")
    return int(text)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return the type of whole numbers from ``low`` to ``high``."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return convert


def positive_number(text: str) -> float:
    """Convert a finite number above 0, in the unit of the argument."""
    if not 0 < (number := float(text)) < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def finite_number(text: str) -> float:
    """Convert a finite number of either sign."""
    if not math.isfinite(number := float(text)):
        raise argparse.ArgumentTypeError(f"must be a finite number, is {text}")
    return number


def time_of_film(text: str) -> float:
    """Convert seconds, or hours, minutes and seconds with colons, to seconds: ``90.5``, ``1:30.5``, ``1:02:03``."""
    parts = text.split(":")
    if len(parts) > 3 or not all(part.replace(".", "", 1).isdecimal() and part.isascii() for part in parts):
        raise argparse.ArgumentTypeError(f"must be seconds or h:mm:ss, is {text!r}")
    return sum(float(part) * 60**place for place, part in enumerate(reversed(parts)))


def share(text: str) -> float:
    """Convert ``10%`` or ``0.1`` to 0.1; 0 and shares above 100% are allowed."""
    number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError("must be a share from 0, such as 2% or 0.02")
    return number


def share_below_one(text: str) -> float:
    """Convert ``10%`` or ``0.1`` to 0.1; 100% and more are refused."""
    if (number := share(text)) >= 1:
        raise argparse.ArgumentTypeError("must be from 0% to less than 100%, such as 10% or 0.1")
    return number


def probability(text: str) -> float:
    """Convert a number from 0 to 1."""
    if not 0 <= (number := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, is {text}")
    return number


def not_empty(text: str) -> str:
    """Refuse an empty text, such as an unset variable of a shell leaves."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; an unset variable?")
    return text


def address(default_host: str, least_port: int = 1) -> Callable[[str], tuple[str, int]]:
    """Return the type of ``PORT`` and ``HOST:PORT``; an IPv6 host stands in brackets."""

    def convert(text: str) -> tuple[str, int]:
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdecimal() and least_port <= int(port) <= 65535):
            raise argparse.ArgumentTypeError(f"{text!r} does not end in a port from {least_port} to 65535")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT; an IPv6 host stands in brackets")
        return host.strip("[]") or default_host, int(port)

    return convert
