"""Types of command-line arguments."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> int:
    """Type of arguments that count something."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def positive_seconds(text: str) -> float:
    """Type of arguments that last."""
    if not 0 < (seconds := float(text)) < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return seconds


def not_empty(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("is empty; an unset variable?")
    return text


def positive_int(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, is {text!r}")
    return int(text)
