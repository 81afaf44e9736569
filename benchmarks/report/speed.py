"""Sections about time: latency, peers, rewrites, roofline. Each returns the blocks of all records with its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.report.content import (
    PRECISION_COLOURS,
    Bar,
    BarChart,
    Block,
    Figure,
    Histogram,
    Span,
    SpanChart,
    Table,
    decimals,
    ms,
    of_kind,
    source,
)
from benchmarks.report.record_files import Record

COLUMNS = 40  # of a histogram
MOST_MEDIANS = 3.0  # end of a histogram; later samples stand in its last column
UNDIVIDED = 5  # the colour of times measured in one piece
GOAL_MS = 10.0
PERCENTILES = ("p50_ms", "p90_ms", "p99_ms")
ROOFLINE_TIMES = ("expected_low_ms", "expected_high_ms", "least_ms", "measured_ms")


def latency(records: Sequence[Record]) -> list[Block]:
    """Return histograms of whole frames, and the stages."""
    return [_latency_block(record) for record in of_kind(records, "latency")]


def _latency_block(record: Record) -> Block:
    engine, stages = record.document["engine"], record.document["stages"]
    # Whole frames as histograms.
    frames = whole_frames(stages)
    figures = []
    for name in frames:
        figures.append(Figure(f"{name}: {len(stages[name]['samples_us'])} samples", _histogram(stages[name])))
    # Stages as bars; detection would dwarf all others.
    parts = {name: stage for name, stage in stages.items() if name not in frames and name != "detection"}
    if parts:
        bars = [_stage_bar(name, stage) for name, stage in parts.items()]
        figures.append(Figure("stages after detection", BarChart(tuple(bars), "ms (bar: median, tick: p90)")))
    # Everything as tables.
    tables = [_stage_table(stages)]
    if events := _single_events(record.document):
        tables.append(Table("single events", ("", ""), events))
    heading = " ".join(str(engine[key]) for key in ("file", "precision") if engine.get(key)) or record.name
    return Block(
        heading=heading,
        sources=(source(record),),
        figures=tuple(figures),
        tables=tuple(tables),
        warnings=tuple(map(str, record.document.get("warnings") or ())),
    )


def whole_frames(stages: dict[str, Any]) -> list[str]:
    """Return the stages that are a frame as a whole, else the longest stage."""
    named = [name for name in stages if "frame" in name or "total" in name]
    return named or [max(stages, key=lambda name: stages[name]["p50_ms"] or 0)]


def _histogram(stage: dict[str, Any]) -> Histogram:
    milliseconds = np.array([value for value in stage["samples_us"] if value is not None]) / 1000
    low, median, late = np.quantile(milliseconds, (0, 0.5, 0.99)).tolist()
    high = max(min(1.1 * late, MOST_MEDIANS * median), 1.02 * low + 1e-3)
    counts = np.histogram(np.clip(milliseconds, low, high), COLUMNS, (low, high))[0].tolist()
    beyond = int((milliseconds > high).sum())
    label = f"ms (last column: {beyond} longer, up to {ms(stage['max_ms'])})" if beyond else "ms"
    marks = []
    for key in PERCENTILES:
        if stage[key] is not None:
            arrow = " →" if stage[key] > high else ""
            marks.append((f"{key[:3]} {ms(stage[key])} ms{arrow}", stage[key]))
    return Histogram(tuple(counts), low, high, label, tuple(marks))


def _stage_bar(name: str, stage: dict[str, Any]) -> Bar:
    return Bar(name, ((stage["p50_ms"] or 0, 0),), f"{ms(stage['p50_ms'])} ms", stage["p90_ms"])


def _stage_table(stages: dict[str, Any]) -> Table:
    rows = []
    for name, stage in stages.items():
        variation = None if stage["cv"] is None else 100 * stage["cv"]
        rows.append((name, *(ms(stage[key]) for key in (*PERCENTILES, "max_ms")), f"{decimals(variation, 1)} %"))
    return Table("milliseconds", ("stage", "p50", "p90", "p99", "max", "variation"), rows)


def _single_events(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the times that stand beside the stages, as rows of a table."""
    times = {key: value for key, value in document.items() if key.endswith("_ms") and isinstance(value, (int, float))}
    return [(key.removesuffix("_ms").replace("_", " "), f"{ms(value)} ms") for key, value in times.items()]


def peers(records: Sequence[Record]) -> list[Block]:
    """Return the times of other programs for the same faces, stage by stage."""
    return [_peers_block(record) for record in of_kind(records, "peers")]


def _peers_block(record: Record) -> Block:
    found, pause = record.document["peers"], record.document["interval_ms"]
    divided = [peer for peer in found if len(peer["stages"]) > 1]
    names = list(dict.fromkeys(name for peer in divided for name in peer["stages"] if name != "total"))
    # One bar per program, in the colours of its stages.
    bars = [_peer_bar(peer, names) for peer in found]
    legend = [(name, colour) for colour, name in enumerate(names)]
    if any(len(bar.parts) == 1 for bar in bars):
        legend.append(("in one piece", UNDIVIDED))
    chart = BarChart(tuple(bars), "ms per face (medians, tick: p90)", tuple(legend))
    threads = "one thread" if record.document["threads"] == 1 else f"{record.document['threads']} threads"
    pauses = f", {pause:g} ms between faces" if pause else ""
    # The same figures as a table.
    head = ("", *names, "total", "p90", "vertices", "per ms", "NME %")
    caption = "milliseconds per face (medians); vertices and vertices per ms"
    return Block(
        sources=(source(record),),
        figures=(Figure(f"{found[0]['faces']} faces, {threads}{pauses}", chart),),
        tables=(Table(caption, head, [_peer_row(peer, names) for peer in found]), *_film_tables(record)),
    )


def _film_tables(record: Record) -> tuple[Table, ...]:
    """Return the table of whole frames of films; none for a record without."""
    head = ("film", "program", "median", "mean", "p90", "frames", "with a face")
    rows = []
    for line in record.document.get("films", ()):
        times = (ms(line[name]) for name in ("median_ms", "mean_ms", "p90_ms"))
        rows.append((line["film"], line["name"], *times, str(line["frames"]), str(line["found"])))
    caption = "whole frames, detection or tracking included, ms"
    return (Table(caption, head, rows, wraps=True),) if rows else ()


def _peer_bar(peer: dict[str, Any], names: Sequence[str]) -> Bar:
    stages, whole = peer["stages"], list(peer["stages"].values())[-1]
    parts = [(stages[name]["median_ms"] or 0, colour) for colour, name in enumerate(names) if name in stages]
    undivided = (whole["median_ms"] or 0, UNDIVIDED)
    return Bar(peer["name"], tuple(parts or [undivided]), f"{ms(whole['median_ms'])} ms", whole["p90_ms"])


def _peer_row(peer: dict[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    stages, whole = peer["stages"], list(peer["stages"].values())[-1]
    times = (ms(stages[name]["median_ms"]) if name in stages else "" for name in names)
    speed = (f"{peer['vertices']:,}", decimals(whole["vertices_per_ms"], 0))
    error = decimals((peer.get("nme") or {}).get("mean"))
    return (peer["name"], *times, ms(whole["median_ms"]), ms(whole["p90_ms"]), *speed, error)


def rewrites(records: Sequence[Record]) -> list[Block]:
    """Return the times of the plain export beside the rewritten one."""
    return [_rewrites_block(record) for record in of_kind(records, "rewrites")]


def _rewrites_block(record: Record) -> Block:
    bars, medians, rows = [], [], []
    for colour, name in enumerate(("plain", "rewritten")):
        times = np.array([value for value in record.document[name]["times_ms"] if value is not None])
        median, p90 = np.quantile(times, (0.5, 0.9)).tolist()
        medians.append(median)
        bars.append(Bar(name, ((median, colour),), f"{ms(median)} ms", p90))
        rows.append((name, str(len(times)), ms(median), ms(p90), ms(float(times.max()))))
    caption = f"{record.document['threads']} threads: rewritten is {medians[0] / medians[1]:.2f} × as fast"
    return Block(
        sources=(source(record),),
        figures=(Figure(caption, BarChart(tuple(bars), "ms (bar: median, tick: p90)")),),
        tables=(Table("milliseconds", ("graph", "runs", "p50", "p90", "max"), rows),),
    )


def library(records: Sequence[Record]) -> list[Block]:
    """Return the times of whole frames in the C library beside Python's."""
    return [_library_block(record) for record in of_kind(records, "library")]


def _library_block(record: Record) -> Block:
    frames = record.document["frame"]
    bars = tuple(
        Bar(name, ((times["p50_ms"], colour),), f"{ms(times['p50_ms'])} ms", times["p90_ms"])
        for colour, (name, times) in enumerate(frames.items())
    )
    rows = [
        (name, str(times["count"]), *(ms(times[key]) for key in ("p50_ms", "p90_ms", "max_ms")))
        for name, times in frames.items()
    ]
    caption = f"whole frames, threads: {record.document['threads']}"
    return Block(
        sources=(source(record),),
        figures=(Figure(caption, BarChart(bars, "ms (bar: median, tick: p90)")),),
        tables=(Table("milliseconds", ("by", "frames", "p50", "p90", "max"), rows),),
    )


def roofline(records: Sequence[Record]) -> list[Block]:
    """Return least and expected times on GPUs.

    Every network has a chart for Jetsons and one for cards, with the same axis.
    """
    found = of_kind(records, "roofline")
    if not found:
        return []
    # One chart per network and family, one row per device and precision.
    figures, rows = [], []
    for record in found:
        batch = "" if record.document["batch"] == 1 else f", batch {record.document['batch']}"
        for network in dict.fromkeys(line["network"] for line in record.document["rows"]):
            lines = [line for line in record.document["rows"] if line["network"] == network]
            for family, chart in _device_charts(lines).items():
                figures.append(Figure(f"{network} on {family}{batch}", chart))
            rows += [_roofline_row(line, batch) for line in lines]
    note = (
        "Bars are predictions from what others measured on other networks, not measurements. Ticks are the least time "
        "that arithmetic and memory allow. Dots are measured. The dashed line is 10 ms."
    )
    head = ("network", "device", "precision", "least", "expected", "measured")
    return [
        Block(
            sources=tuple(source(record, is_measured=False) for record in found),
            note=note,
            figures=tuple(figures),
            tables=(Table("milliseconds, network alone", head, rows),),
        )
    ]


def _device_charts(lines: Sequence[dict[str, Any]]) -> dict[str, SpanChart]:
    """Return the charts of one network by the name of the device family."""
    values = [line[key] for line in lines for key in ROOFLINE_TIMES if line.get(key)]
    low, high = min(values) / 1.3, 1.3 * max(*values, GOAL_MS)
    charts = {}
    for family in dict.fromkeys(line["family"] for line in lines):
        spans = tuple(_roofline_span(line) for line in lines if line["family"] == family)
        used = {span.colour for span in spans}
        legend = tuple((name.upper(), colour) for name, colour in PRECISION_COLOURS.items() if colour in used)
        chart = SpanChart(spans, "ms, network alone", low, high, logarithmic=True, limit=GOAL_MS, legend=legend)
        charts["Jetsons" if family == "jetson" else "cards"] = chart
    return charts


def _roofline_span(line: dict[str, Any]) -> Span:
    low, high, least, measured = (line.get(key) for key in ROOFLINE_TIMES)
    return Span(line["device_name"], low, high, PRECISION_COLOURS[line["precision"]], least, measured)


def _roofline_row(line: dict[str, Any], batch: str) -> tuple[str, ...]:
    expected = f"{ms(line['expected_low_ms'])} – {ms(line['expected_high_ms'])}"
    times = (ms(line["least_ms"]), expected, ms(line.get("measured_ms")))
    return (f"{line['network']}{batch}", line["device_name"], line["precision"].upper(), *times)
