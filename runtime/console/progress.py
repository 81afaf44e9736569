"""Progress bars on stderr, only if that is a terminal. Home module of tqdm."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def _is_off() -> bool | None:
    """Return True without stderr; None leaves it to tqdm."""
    return True if sys.stderr is None else None


def progress_bar(items: Iterable[T], total: int | None, unit: str) -> Iterable[T]:
    """Return ``items`` with a bar that counts them; ``total`` is None for an unknown number."""
    return tqdm(items, total=total, unit=unit, disable=_is_off(), dynamic_ncols=True, leave=False)


def counting_bar(total: int, description: str) -> tqdm:
    """Return a bar for work that reports its steps itself.

    ``update(n)`` counts, ``set_postfix_str`` names the present step, ``close()`` removes the bar.
    """
    layout = "{desc}: {n_fmt}/{total_fmt} |{bar}| {elapsed}{postfix}"
    return tqdm(
        total=total,
        desc=description,
        bar_format=layout,
        miniters=0,
        disable=_is_off(),
        dynamic_ncols=True,
        leave=False,
    )


def print_above_bar(line: str) -> None:
    """Print a line on stderr above a running bar."""
    tqdm.write(line, file=sys.stderr)
