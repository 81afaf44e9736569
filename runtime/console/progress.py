"""A progress bar on stderr, nothing where stderr is no terminal. Home module of tqdm."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress_bar(items: Iterable[T], total: int | None, unit: str) -> Iterable[T]:
    """``items`` with a bar that counts them; ``total`` None where their number is unknown."""
    return tqdm(items, total=total, unit=unit, disable=None, dynamic_ncols=True, leave=False)


def counting_bar(total: int, description: str) -> tqdm:
    """A bar for work that reports its steps itself: ``update(n)`` counts, ``set_postfix_str`` says what is under way, ``close()`` removes it."""
    layout = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
    return tqdm(total=total, desc=description, bar_format=layout, miniters=0, disable=None, dynamic_ncols=True, leave=False)


def print_above_bar(line: str) -> None:
    """A line on stderr that a running bar does not cut in two."""
    tqdm.write(line, file=sys.stderr)
