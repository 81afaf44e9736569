"""Plots as SVG inside HTML. Widths are in percent and texts in pixels, so a plot fills a phone or a page without its letters shrinking.

Colours, dashes and fonts come from the page (classes ``c0`` … ``c5``, ``m0`` … ``m2``, ``grid``, ``axis``, ``value``, ``mark``). Labels stand above
what they name and not beside it. Where it has to be decided whether two texts would meet, letters are taken as 7 px wide on a plot of 300 px.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT = 2.0, 98.0  # percent: the plot area
NARROWEST_PX, LETTER_PX = 300, 7
MOST_TICKS = 5


@dataclass(frozen=True)
class Axis:
    """A horizontal axis: where a value lies in percent of the width, and its ticks."""

    low: float
    high: float
    label: str
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Percent, kept inside the plot."""
        low, high, here = (math.log10(v) for v in (self.low, self.high, max(value, self.low))) if self.logarithmic else (self.low, self.high, value)
        return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, (here - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Round numbers inside the axis, few enough for a phone."""
        if not self.logarithmic:
            return linear_ticks(self.low, self.high)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for digits in ((1, 2, 5), (1, 3), (1,)):
            ticks = [digit * 10.0**decade for decade in decades for digit in digits]
            ticks = [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]
            if len(ticks) <= MOST_TICKS + 2:
                break
        return ticks


def linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 × 10ⁿ from ``low`` to ``high``."""
    step = 10.0 ** math.floor(math.log10((high - low) / MOST_TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= MOST_TICKS)
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """Three digits that count, without a tail of zeros."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart: lengths laid end to end, each with the number of its colour."""

    label: str
    parts: tuple[tuple[float, int], ...]
    value: str  # what is written at the right
    mark: float | None = None  # a tick on the bar's line, p90 for instance


@dataclass(frozen=True)
class Range:
    """One line of a range chart: from ``low`` to ``high``, with ticks and dots."""

    label: str
    low: float
    high: float
    colour: int
    tick: float | None = None
    dot: float | None = None
    value: str = ""  # written behind the end


@dataclass(frozen=True)
class Point:
    """One point of a scatter plot."""

    x: float
    y: float
    label: str
    colour: int


def bars(title: str, rows: Sequence[Bar], axis: Axis) -> str:
    """Horizontal bars, label and value above each."""
    parts, y = [], 0
    for row in rows:
        parts.append(_text(LEFT, y + 13, row.label) + _text(RIGHT, y + 13, row.value, "end", "value"))
        end = 0.0
        for length, colour in row.parts:
            start, end = end, end + length
            parts.append(_rect(axis.at(start), y + 18, axis.at(end) - axis.at(start), 12, colour))
        if row.mark is not None:
            parts.append(_line(axis.at(row.mark), y + 16, axis.at(row.mark), y + 32, "mark"))
        y += 40
    return _svg(title, _grid(axis, 0, y) + "".join(parts), y + 34)


def ranges(title: str, rows: Sequence[Range], axis: Axis, limit: float | None = None) -> str:
    """Horizontal ranges; rows with the label of the row before share its heading. ``limit`` draws a line across."""
    parts, y, before = [], 0, None
    for row in rows:
        if row.label != before:
            y += 6
            parts.append(_text(LEFT, y + 12, row.label))
            y += 20
        before = row.label
        parts.append(_rect(axis.at(row.low), y, max(axis.at(row.high) - axis.at(row.low), 0.5), 8, row.colour))
        if row.tick is not None:
            parts.append(_line(axis.at(row.tick), y - 2, axis.at(row.tick), y + 10, "mark"))
        if row.value:
            parts.append(_text(axis.at(row.high), y + 8, row.value, extra="small", dx=5))
        if row.dot is not None:
            parts.append(f'<circle class="dot" cx="{axis.at(row.dot):.2f}%" cy="{y + 4}" r="4"/>')
        y += 13
    y += 4
    line = "" if limit is None else _line(axis.at(limit), 0, axis.at(limit), y, "limit")
    return _svg(title, _grid(axis, 0, y) + line + "".join(parts), y + 34)


def histogram(title: str, counts: Sequence[int], axis: Axis, lines: Sequence[float]) -> str:
    """Columns of equal width over the whole axis, and a line of the class ``m0``, ``m1`` … at each value that lies on it."""
    base, most = 160, max(max(counts), 1)
    width = (RIGHT - LEFT) / len(counts)
    parts = [_rect(LEFT + i * width, base - 150 * count / most, width * 0.92, 150 * count / most, 0) for i, count in enumerate(counts) if count]
    parts += [_line(axis.at(value), 0, axis.at(value), base, f"mark m{i}") for i, value in enumerate(lines) if value <= axis.high]
    return _svg(title, _grid(axis, 0, base) + "".join(parts), base + 34)


def scatter(title: str, points: Sequence[Point], axis: Axis, y_low: float, y_high: float, y_label: str) -> str:
    """Points with their labels, which are put where they meet neither another label nor a point."""
    top, height = 26, 240

    def row(value: float) -> float:
        return top + height * (1 - (value - y_low) / (y_high - y_low))

    parts = [_text(LEFT, 12, y_label, extra="axis")]
    for tick in linear_ticks(y_low, y_high):
        parts.append(_line(LEFT, row(tick), RIGHT, row(tick), "grid") + _text(LEFT, row(tick) - 3, number(tick), extra="axis"))
    centres = [(axis.at(point.x) / 100 * NARROWEST_PX, row(point.y)) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    for point, (x, y) in zip(points, centres, strict=True):
        box, anchor = _free_place(x, y, LETTER_PX * len(point.label), taken)
        taken.append(box)
        dx = {"start": 8, "end": -8, "middle": 0}[anchor]
        parts.append(f'<circle class="c{point.colour}" cx="{axis.at(point.x):.2f}%" cy="{y:.1f}" r="5"/>')
        parts.append(_text(axis.at(point.x), box[1] + 11, point.label, anchor, dx=dx))
    return _svg(title, _grid(axis, top, top + height) + "".join(parts), top + height + 34)


Box = tuple[float, float, float, float]


def _free_place(x: float, y: float, width: float, taken: Sequence[Box]) -> tuple[Box, str]:
    """The box of a label of 14 px by ``width`` near the point, and its anchor: right, left, above or below, else ever further below."""
    candidates: list[tuple[float, float, str]] = []
    for dy in (0, -16, 16, -32, 32, -48, 48, 64, 80):
        candidates += [(x + 8, y - 7 + dy, "start"), (x - 8 - width, y - 7 + dy, "end")]
        if dy:
            candidates.append((x - width / 2, y - 7 + dy, "middle"))
    for left, top, anchor in candidates:
        box = (left, top, left + width, top + 14)
        inside = left >= 0 and left + width <= NARROWEST_PX and top >= 14
        if inside and not any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken):
            return box, anchor
    left, top, anchor = candidates[0]
    return (left, top, left + width, top + 14), anchor


def _grid(axis: Axis, top: float, base: float) -> str:
    """Vertical lines with their numbers, and the axis label under them."""
    parts = []
    for tick in axis.ticks():
        x = axis.at(tick)
        anchor = "start" if x < 6 else "end" if x > 94 else "middle"
        parts.append(_line(x, top, x, base, "grid") + _text(x, base + 14, number(tick), anchor, "axis"))
    return "".join(parts) + _text(50, base + 29, axis.label, "middle", "axis")


def _svg(title: str, content: str, height: float) -> str:
    return f'<svg role="img" aria-label="{escape(title)}" width="100%" height="{height:.0f}">{content}</svg>'


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "label", dx: float = 0) -> str:
    shift = f' dx="{dx:g}"' if dx else ""
    return f'<text class="{extra}" text-anchor="{anchor}" x="{x:.2f}%" y="{y:.1f}"{shift}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: int) -> str:
    return f'<rect class="c{colour}" x="{x:.2f}%" y="{y:.1f}" width="{width:.2f}%" height="{height:.1f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.2f}%" y1="{y1:.1f}" x2="{x2:.2f}%" y2="{y2:.1f}"/>'
