"""Content of a report page as plain data: sections of blocks, with charts and tables.

Sections are made without a drawing or template library. `benchmarks.report.charts` draws the charts and
`benchmarks.report.page` renders the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.record_files import Record

PRECISION_COLOURS = {"fp16": 0, "int8": 1, "fp32": 2}
Legend = tuple[tuple[str, int], ...]  # names with the numbers of their colours


@dataclass(frozen=True)
class Bar:
    """One bar of a chart: lengths laid end to end, each with the number of its colour."""

    label: str
    parts: tuple[tuple[float, int], ...]
    value: str  # written at the right
    mark: float | None = None  # a tick on the bar, at p90 for instance


@dataclass(frozen=True)
class BarChart:
    """Horizontal bars from zero, in the units of ``axis_label``."""

    bars: tuple[Bar, ...]
    axis_label: str
    legend: Legend = ()


@dataclass(frozen=True)
class Span:
    """One horizontal span of a chart, from ``low`` to ``high``."""

    label: str
    low: float
    high: float
    colour: int
    tick: float | None = None
    dot: float | None = None
    value: str = ""  # written behind the end


@dataclass(frozen=True)
class SpanChart:
    """Horizontal spans; neighbours with the same label share its heading."""

    spans: tuple[Span, ...]
    axis_label: str
    low: float
    high: float
    logarithmic: bool = False
    limit: float | None = None  # a dashed line across
    legend: Legend = ()


@dataclass(frozen=True)
class Histogram:
    """Counts of equal bins from ``low`` to ``high``, with a named line at each value of ``marks``.

    Marks beyond ``high`` stand in the legend alone.
    """

    counts: tuple[int, ...]
    low: float
    high: float
    axis_label: str
    marks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Point:
    """One labelled point of a scatter chart."""

    x: float
    y: float
    label: str
    colour: int


@dataclass(frozen=True)
class ScatterChart:
    """Points over a logarithmic x axis."""

    points: tuple[Point, ...]
    x_label: str
    y_label: str
    legend: Legend = ()


Chart = BarChart | SpanChart | Histogram | ScatterChart


@dataclass(frozen=True)
class Figure:
    """A chart under its caption."""

    caption: str
    chart: Chart


@dataclass(frozen=True)
class Table:
    """A table; the cells of the head and of every row are text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    wraps: bool = False  # long cells break into lines


@dataclass(frozen=True)
class Source:
    """Origin of the figures of a block; ``machine`` is empty for computed ones."""

    file: str
    machine: str
    command: str


@dataclass(frozen=True)
class Block:
    """A part of a section, from top to bottom in the order of its fields."""

    heading: str = ""
    sources: tuple[Source, ...] = ()
    note: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A titled section of a page."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Listing:
    """A section at the end of a page: entries of text."""

    title: str
    entries: tuple[str, ...]
    text: str = ""


@dataclass(frozen=True)
class Page:
    """A page from top to bottom in the order of its fields."""

    title: str
    lead: str = ""
    verdicts: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    closings: tuple[Listing, ...] = ()


def source(record: Record, is_measured: bool = True) -> Source:
    """Return the origin of a record's figures; computed figures come from no machine."""
    command = record.document.get("command")
    return Source(record.name, record.machine if is_measured else "", command if isinstance(command, str) else "")


def of_kind(records: Sequence[Record], kind: str) -> list[Record]:
    """Return the records of one kind."""
    return [record for record in records if record.kind == kind]


def ms(value: float | None) -> str:
    """Format milliseconds without the unit."""
    if value is None:
        return decimals(None)
    if value < 1:
        return decimals(value, 3)
    return decimals(value, 2 if value < 100 else 0)


def decimals(value: float | None, places: int = 2) -> str:
    """Format a number, "–" for None."""
    return "–" if value is None else f"{value:,.{places}f}"
