"""Sections about time: latency, peers, rewrites, roofline. Each takes all records and returns HTML, empty where none has its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from benchmarks.records.record import Record
from benchmarks.report.html import PRECISION_COLOURS, decimals, figure, legend, ms, of_kind, plots, source, table
from benchmarks.report.svg import Axis, Bar, Range, bars, histogram, ranges

COLUMNS = 40  # of a histogram
MOST_MEDIANS = 3.0  # where a histogram ends; what is later stands in its last column
UNDIVIDED = 5  # the colour of what is measured in one piece
GOAL_MS = 10.0


def latency(records: Sequence[Record]) -> str:
    """Histograms of whole frames, and the stages."""
    return "".join(_one_latency(record) for record in of_kind(records, "latency"))


def _one_latency(record: Record) -> str:
    engine, stages = record.document["engine"], record.document["stages"]
    frames = whole_frames(stages)
    figures = [figure(_histogram(name, stages[name]), f"{name}: {len(stages[name]['samples_us'])} samples") for name in frames]
    parts = {name: stage for name, stage in stages.items() if name not in frames and name != "detection"}  # it would dwarf all others
    if parts:
        rows = [Bar(name, ((stage["p50_ms"] or 0, 0),), f"{ms(stage['p50_ms'])} ms", stage["p90_ms"]) for name, stage in parts.items()]
        figures.append(figure(bars("stages", rows, _axis(rows, "ms (bar: median, tick: p90)")), "stages after detection"))
    lines = [("stage", "p50", "p90", "p99", "max", "variation")]
    for name, stage in stages.items():
        variation = None if stage["cv"] is None else 100 * stage["cv"]
        lines.append((name, *(ms(stage[key]) for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms")), f"{decimals(variation, 1)} %"))
    heading = " ".join(str(engine[key]) for key in ("file", "precision") if engine.get(key)) or record.name
    content = plots(figures) + table(lines, "milliseconds") + _single_events(record.document)
    return f"<h3>{escape(heading)}</h3>{source(record)}{content}"


def whole_frames(stages: dict[str, Any]) -> list[str]:
    """The stages that are a frame as a whole; the longest where none is called so."""
    named = [name for name in stages if "frame" in name or "total" in name]
    return named or [max(stages, key=lambda name: stages[name]["p50_ms"] or 0)]


def _histogram(name: str, stage: dict[str, Any]) -> str:
    milliseconds = np.array([value for value in stage["samples_us"] if value is not None]) / 1000
    low, median, late = np.quantile(milliseconds, (0, 0.5, 0.99)).tolist()
    high = max(min(1.1 * late, MOST_MEDIANS * median), 1.02 * low + 1e-3)
    counts = np.histogram(np.clip(milliseconds, low, high), COLUMNS, (low, high))[0].tolist()
    beyond = int((milliseconds > high).sum())
    label = f"ms (last column: {beyond} longer, up to {ms(stage['max_ms'])})" if beyond else "ms"
    marks = {key[:3]: stage[key] for key in ("p50_ms", "p90_ms", "p99_ms") if stage[key] is not None}
    names = ((f"{name} {ms(value)} ms{' →' if value > high else ''}", i) for i, (name, value) in enumerate(marks.items()))
    return histogram(name, counts, Axis(low, high, label), list(marks.values())) + legend(names, "m")


def _single_events(document: dict[str, Any]) -> str:
    """Times that stand beside the stages, and the warnings."""
    times = {key: value for key, value in document.items() if key.endswith("_ms") and isinstance(value, (int, float))}
    rows = [(key.removesuffix("_ms").replace("_", " "), f"{ms(value)} ms") for key, value in times.items()]
    warnings = "".join(f"<li>{escape(str(text))}</li>" for text in document.get("warnings") or ())
    return (table([("", ""), *rows], "single events") if rows else "") + (f"<ul class=warning>{warnings}</ul>" if warnings else "")


def peers(records: Sequence[Record]) -> str:
    """What others take for the same faces, stage by stage."""
    return "".join(_one_comparison(record) for record in of_kind(records, "peers"))


def _one_comparison(record: Record) -> str:
    found, pause = record.document["peers"], record.document["interval_ms"]
    names = list(dict.fromkeys(name for peer in found if len(peer["stages"]) > 1 for name in peer["stages"] if name != "total"))
    rows, lines = [], [("", *names, "total", "p90", "vertices", "per ms", "NME %")]
    for peer in found:
        stages = {name: figures["median_ms"] for name, figures in peer["stages"].items()}
        whole, nme = list(peer["stages"].values())[-1], (peer.get("nme") or {}).get("mean")
        parts = [(stages[name] or 0, names.index(name)) for name in names if name in stages]
        rows.append(Bar(peer["name"], tuple(parts or [(whole["median_ms"] or 0, UNDIVIDED)]), f"{ms(whole['median_ms'])} ms", whole["p90_ms"]))
        times = (ms(stages[name]) if name in stages else "" for name in names)
        speed = (ms(whole["median_ms"]), ms(whole["p90_ms"]), f"{peer['vertices']:,}", decimals(whole["vertices_per_ms"], 0))
        lines.append((peer["name"], *times, *speed, decimals(nme)))
    key = [*zip(names, range(len(names)), strict=True), *([("in one piece", UNDIVIDED)] if any(len(row.parts) == 1 for row in rows) else [])]
    threads = "one thread" if record.document["threads"] == 1 else f"{record.document['threads']} threads"
    caption = f"{found[0]['faces']} faces, {threads}{f', {pause:g} ms between faces' if pause else ''}"
    plot = bars("time per face", rows, _axis(rows, "ms per face (medians, tick: p90)")) + legend(key)
    return source(record) + plots([figure(plot, caption)]) + table(lines, "milliseconds per face (medians); vertices and vertices per ms")


def rewrites(records: Sequence[Record]) -> str:
    """The plain export beside the rewritten one."""
    parts = []
    for record in of_kind(records, "rewrites"):
        rows, medians = [], []
        for colour, name in enumerate(("plain", "rewritten")):
            times = np.array([value for value in record.document[name]["times_ms"] if value is not None])
            medians.append(float(np.median(times)))
            rows.append(Bar(name, ((medians[-1], colour),), f"{ms(medians[-1])} ms", float(np.quantile(times, 0.9))))
        caption = f"{record.document['threads']} threads: rewritten is {medians[0] / medians[1]:.2f} × as fast"
        parts.append(source(record) + plots([figure(bars("rewrites", rows, _axis(rows, "ms (bar: median, tick: p90)")), caption)]))
    return "".join(parts)


def roofline(records: Sequence[Record]) -> str:
    """Least and expected times on GPUs: a figure per network for Jetsons and one for cards, with the same axis."""
    sources, figures = "", []
    for record in of_kind(records, "roofline"):
        sources += source(record, is_measured=False)
        batch = "" if record.document["batch"] == 1 else f", batch {record.document['batch']}"
        for network in dict.fromkeys(line["network"] for line in record.document["rows"]):
            lines = [line for line in record.document["rows"] if line["network"] == network]
            figures += [figure(plot, f"{network} on {family}{batch}") for family, plot in _devices(network, lines)]
    note = (
        "Bars are predictions from what others measured on other networks, not measurements. Ticks are the least time that arithmetic and "
        "memory allow. Dots are measured. The dashed line is 10 ms."
    )
    return f"{sources}<p class=note>{note}</p>{plots(figures)}" if figures else ""


def _devices(network: str, lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Name of the family and plot."""
    times = ("expected_low_ms", "expected_high_ms", "least_ms", "measured_ms")
    values = [line[key] for line in lines for key in times if line.get(key)]
    axis = Axis(min(values) / 1.3, 1.3 * max(*values, GOAL_MS), "ms, network alone", logarithmic=True)
    for family in dict.fromkeys(line["family"] for line in lines):
        rows = []
        for line in lines:
            if line["family"] == family:
                low, high, least, measured = (line.get(key) for key in times)
                rows.append(Range(line["device_name"], low, high, PRECISION_COLOURS[line["precision"]], least, measured))
        used = [(name.upper(), colour) for name, colour in PRECISION_COLOURS.items() if any(row.colour == colour for row in rows)]
        plot = ranges(f"least and expected time of {network}", rows, axis, GOAL_MS) + legend(used)
        yield "Jetsons" if family == "jetson" else "cards", plot


def _axis(rows: Sequence[Bar], label: str) -> Axis:
    """From nothing to the end of the longest row."""
    longest = max(max(sum(length for length, _ in row.parts), row.mark or 0) for row in rows)
    return Axis(0, 1.05 * longest or 1, label)
