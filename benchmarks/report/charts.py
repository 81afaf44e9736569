"""Charts of `benchmarks.report.content` drawn by matplotlib as SVG for an HTML page. Home of matplotlib.

Texts stay texts. Colours become variables of the page's style sheet, so that a chart follows dark and light mode.
The same chart always gives the same SVG.
"""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox

from benchmarks.report.content import BarChart, Chart, Histogram, ScatterChart, SpanChart

WIDTH = 340.0  # of a chart, in points as all lengths here; a phone shows it a little smaller
MARGIN = 12.0  # left and right of the axes, for half a tick label
BELOW = 32.0  # the axes, for tick labels and the axis label
TEXT, SMALL_TEXT = 9.5, 8.5
WIDE_RANGE = 100.0  # from this ratio on, a logarithmic axis has ticks at powers of ten alone

# A colour on the drawing -> the variable of the style sheet that replaces it.
INK, SOFT, LINE, CARD = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#010001", "#010002", "#010003", "#010004", "#010005", "#010006")
VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", CARD: "--card"}
VARIABLES |= {colour: f"--c{number}" for number, colour in enumerate(SERIES)}

MARK = {"color": INK, "linewidth": 1.8, "solid_capstyle": "butt"}
MARK_STYLES = ("-", (0, (4, 2)), (0, (1, 1.5)))  # of the lines across a histogram
# Offsets of a label from its point and its alignment, the nearest first.
LABEL_PLACES = [(8.0, 0.0, "left"), (-8.0, 0.0, "right")]
for shift in (16.0, 32.0, 48.0, 64.0, 80.0):
    for sign in (1, -1):
        LABEL_PLACES += [(8.0, sign * shift, "left"), (-8.0, sign * shift, "right"), (0.0, sign * shift, "center")]
OPTIONS = {
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.labelsize": SMALL_TEXT,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": TEXT,
    "grid.color": LINE,
    "lines.scale_dashes": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name with dollars is a name
    "xtick.color": SOFT,
    "xtick.labelsize": SMALL_TEXT,
    "xtick.major.size": 0,
    "ytick.color": SOFT,
    "ytick.labelsize": SMALL_TEXT,
    "ytick.major.size": 0,
}


def to_svg(chart: Chart, caption: str, name: str) -> str:
    """Draw a chart as an ``<svg>`` element for the middle of an HTML page.

    ``caption`` is the label for screen readers. ``name`` must differ between the charts of a page: identifiers in the
    drawing derive from it.
    """
    content = io.StringIO()
    with matplotlib.rc_context({**OPTIONS, "svg.hashsalt": name}):
        draw(chart).savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = content.getvalue()
    # Drop the XML prologue and a style sheet that would hold for the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Keep the identifiers that the drawing refers to; the others would repeat from chart to chart.
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"#[0-9a-f]{6}\b", lambda found: f"var({VARIABLES.get(found[0], '--ink')})", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)


def draw(chart: Chart) -> Figure:
    """Draw a chart as a figure of matplotlib."""
    with matplotlib.rc_context(OPTIONS):
        if isinstance(chart, BarChart):
            return _draw_bars(chart)
        if isinstance(chart, SpanChart):
            return _draw_spans(chart)
        if isinstance(chart, Histogram):
            return _draw_histogram(chart)
        return _draw_scatter(chart)


def number(value: float, _: int | None = None) -> str:
    """Format a tick with three significant digits at most."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _new_axes(height: float, label: str, above: float = 0.0) -> Axes:
    """Return axes of ``height`` points under a margin of ``above``, with ticks and vertical lines."""
    whole = height + above + BELOW
    figure = Figure(figsize=(WIDTH / 72, whole / 72))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((MARGIN / WIDTH, BELOW / whole, 1 - 2 * MARGIN / WIDTH, height / whole))
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(number)
    axes.grid(axis="x")
    axes.set_yticks([])
    return axes


def _use_logarithm(axes: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with ticks few enough for a phone."""
    digits = (1.0,) if high / low >= WIDE_RANGE else (1.0, 2.0, 5.0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=digits))
    axes.xaxis.set_major_formatter(number)
    axes.minorticks_off()
    axes.set_xlim(low, high)


def _draw_bars(chart: BarChart) -> Figure:
    row = 38.0
    axes = _new_axes(row * len(chart.bars), chart.axis_label)
    longest = max(max(sum(length for length, _ in bar.parts), bar.mark or 0) for bar in chart.bars)
    axes.set(xlim=(0, 1.05 * longest or 1), ylim=(row * len(chart.bars), 0))
    across = axes.get_yaxis_transform()
    for place, bar in enumerate(chart.bars):
        # Label and value stand above the bar.
        top = row * place
        axes.text(0, top + 15, bar.label, transform=across)
        axes.text(1, top + 15, bar.value, transform=across, ha="right")
        start = 0.0
        for length, colour in bar.parts:
            axes.barh(top + 25, length, height=12, left=start, color=SERIES[colour])
            start += length
        if bar.mark is not None:
            axes.plot([bar.mark, bar.mark], [top + 17, top + 33], **MARK)
    return axes.figure


def _draw_spans(chart: SpanChart) -> Figure:
    # Headings take 26 points, spans 13.
    headings = sum(_starts_group(chart, place) for place in range(len(chart.spans)))
    height = 26.0 * headings + 13.0 * len(chart.spans) + 4
    axes = _new_axes(height, chart.axis_label)
    if chart.logarithmic:
        _use_logarithm(axes, chart.low, chart.high)
    axes.set(xlim=(chart.low, chart.high), ylim=(height, 0))
    if chart.limit is not None:
        axes.axvline(chart.limit, color=SERIES[3], linewidth=1.3, linestyle=(0, (4, 3)))
    y = 0.0
    for place, span in enumerate(chart.spans):
        if _starts_group(chart, place):
            axes.text(0, y + 19, span.label, transform=axes.get_yaxis_transform())
            y += 26
        axes.barh(y + 4, span.high - span.low, height=8, left=span.low, color=SERIES[span.colour])
        if span.tick is not None:
            axes.plot([span.tick, span.tick], [y - 2, y + 10], **MARK)
        if span.dot is not None:
            axes.plot(span.dot, y + 4, "o", color=INK, markeredgecolor=CARD, markersize=7)
        if span.value:
            place_behind = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
            axes.annotate(span.value, (span.high, y + 4), size=SMALL_TEXT, color=SOFT, **place_behind)
        y += 13
    return axes.figure


def _starts_group(chart: SpanChart, place: int) -> bool:
    return place == 0 or chart.spans[place].label != chart.spans[place - 1].label


def _draw_histogram(chart: Histogram) -> Figure:
    axes = _new_axes(150.0, chart.axis_label, above=6.0)
    axes.set(xlim=(chart.low, chart.high), ylim=(0, max(*chart.counts, 1)))
    width = (chart.high - chart.low) / len(chart.counts)
    starts = [chart.low + width * column for column in range(len(chart.counts))]
    axes.bar(starts, chart.counts, 0.92 * width, align="edge", color=SERIES[0])
    for (_, value), style in zip(chart.marks, MARK_STYLES, strict=False):
        if value <= chart.high:
            axes.axvline(value, color=INK, linewidth=1.6, linestyle=style)
    return axes.figure


def _draw_scatter(chart: ScatterChart) -> Figure:
    axes = _new_axes(240.0, chart.x_label, above=22.0)
    times, errors = [point.x for point in chart.points], [point.y for point in chart.points]
    room = 0.15 * (max(errors) - min(errors)) or 0.1
    _use_logarithm(axes, min(times) / 1.6, max(times) * 1.6)
    axes.set_ylim(min(errors) - room, max(errors) + room)
    # The scale of y stands inside, left above its lines, so that the plot keeps the whole width.
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(number)
    axes.tick_params(axis="y", direction="in", pad=-2)
    for label in axes.get_yticklabels():
        label.set(ha="left", va="bottom")
    axes.grid(axis="y")
    axes.set_title(chart.y_label, loc="left", size=SMALL_TEXT, color=SOFT, pad=8)
    for point in chart.points:
        axes.plot(point.x, point.y, "o", color=SERIES[point.colour], markersize=9)
    _label_points(axes, chart)
    return axes.figure


def _label_points(axes: Axes, chart: ScatterChart) -> None:
    """Write the label of every point at the nearest place that is free of points and of other labels."""
    renderer = axes.figure.canvas.get_renderer()
    inside = Bbox.from_bounds(0, BELOW, WIDTH, axes.bbox.height)
    centres = axes.transData.transform([(point.x, point.y) for point in chart.points])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    taken += [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    for point in chart.points:
        label = axes.annotate(point.label, (point.x, point.y), (8, 0), textcoords="offset points", va="center")
        for x, y, alignment in LABEL_PLACES:
            label.set(position=(x, y), ha=alignment)
            box = label.get_window_extent(renderer)
            is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if is_inside and not box.count_overlaps(taken):
                break
        taken.append(box)
