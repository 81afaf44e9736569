"""The report: its records, its page, and charts that are right and legible."""

from __future__ import annotations

import html.parser
import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.report.content import Bar, BarChart, Chart, Histogram, Point, ScatterChart, Span, SpanChart
from benchmarks.report.record_files import Record, mismatch, read_record, read_records
from benchmarks.report.report import make_page

pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("jinja2", reason="needs Jinja2")

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmarks.report import page as report_page
from benchmarks.report.charts import WIDTH, draw, number, to_svg

SHA = {"edge.onnx": "a" * 64, "edge-fp16.onnx": "b" * 64, "edge.engine": "c" * 64}
ORIGIN = {
    "command": "python -m benchmarks …",
    "machine": {"cpu": "Fast CPU", "cores": 2},
    "versions": {"python": "3.11"},
    "commit": None,
}


def stage(median_ms: float) -> dict[str, Any]:
    samples = median_ms * np.exp(0.03 * np.random.default_rng(0).standard_normal(500))
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "max_ms": samples.max(),
        "cv": 0.03,
        "samples_us": (1000 * samples).round(1).tolist(),
    }


def latency(file: str = "edge.onnx", precision: str = "fp32", frame_ms: float = 0.9, **engine: str) -> dict[str, Any]:
    stages = {
        "crop": stage(0.09),
        "network": stage(0.76),
        "decode": stage(0.04),
        "frame": stage(frame_ms),
        "frame+detection": stage(11.0),
    }
    engine = {"file": file, "sha256": SHA[file], "precision": precision, **engine}
    return {
        **ORIGIN,
        "kind": "latency",
        "engine": engine,
        "stages": stages,
        "cold_start_ms": 400.0,
        "warnings": ["mind the <load>"],
    }


def accuracy(file: str = "edge.onnx", mean: float = 3.2) -> dict[str, Any]:
    lines = [
        {"boxes": boxes, "measure": measure, "faces": 1000, "mean": mean, "bins": [2.83, 3.58, 4.29], "balanced": 3.57}
        for boxes in ("ground-truth", "detected")
        for measure in ("68 points 2D", "dense 2D")
    ]
    return {**ORIGIN, "subject": {"file": file, "sha256": SHA[file]}, "table": lines}


def robustness() -> dict[str, Any]:
    figures = {"median": 3.1, "spread": None, "ratio": 1.0, "over_10": 0.1, "score": 0.9, "confidence": None}
    lines = [
        {"kind": kind, "condition": condition, "boxes": boxes, "faces": 120, "found": found, "nme": nme, **figures}
        for kind, condition, nme in (("clean", "clean", 3.4), ("roll", "roll 30°", 5.67), ("roll", "roll 180°", 71.4))
        for boxes, found in (("detected", 113), ("ground-truth", 120))
    ]
    no_face = {**lines[0], "kind": "no face", "condition": "no face", "nme": None, "found": 3}
    return {**ORIGIN, "kind": "robustness", "subject": {"file": "edge.onnx"}, "table": [*lines, no_face]}


def peers() -> dict[str, Any]:
    def times(median: float) -> dict[str, float]:
        return {"median_ms": median, "p90_ms": 1.1 * median, "vertices_per_ms": 43_867 / median}

    ours = {name: times(ms) for name, ms in (("crop", 0.1), ("network", 0.7), ("decode", 0.1), ("total", 0.9))}
    found = [
        {"name": "this runtime", "note": "", "vertices": 43_867, "faces": 300, "stages": ours, "nme": {"mean": 3.21}},
        {"name": "Another", "note": "", "vertices": 468, "faces": 300, "stages": {"all": times(1.2)}, "nme": None},
    ]
    return {**ORIGIN, "peers": found, "threads": 1, "interval_ms": 0.0}


def int8() -> dict[str, Any]:
    lines = [
        {
            "model": "edge",
            "target": target,
            "method": method,
            "fp32_nme": 3.2,
            "int8_nme": 3.25,
            "shift_px": 0.4,
            "size": 0.27,
        }
        for target in ("tensorrt", "cpu")
        for method in ("entropy", "mse")
    ]
    return {**ORIGIN, "table": lines}


def rewrites() -> dict[str, Any]:
    return {
        **ORIGIN,
        "plain": {"times_ms": [38.0, 40.0, 39.0]},
        "rewritten": {"times_ms": [20.0, 19.5, 21.0]},
        "threads": 2,
    }


@pytest.fixture(scope="module")
def roofline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("roofline") / "roofline.json"
    assert main(["roofline", "prnet", "edge", "--json", str(path)]) == 0
    return json.loads(path.read_text())


@pytest.fixture
def write(tmp_path: Path):
    """``write(name=document, …)``: the files, in order."""

    def write_files(**documents: Any) -> list[str]:
        paths = [tmp_path / f"{name}.json" for name in documents]
        for path, document in zip(paths, documents.values(), strict=True):
            path.write_text(json.dumps(document))
        return [str(path) for path in paths]

    return write_files


def render(records: list[Record]) -> str:
    return report_page.render(make_page(records))


class Page(html.parser.HTMLParser):
    """Headings, texts, tags with attributes, and whether every tag is closed."""

    VOID = ("meta",)

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(content)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if "style" not in self.open:
            self.text += data + "\n"


def test_every_section_of_all_records(write, roofline, tmp_path, capsys):
    files = write(
        latency=latency(),
        peers=peers(),
        accuracy=accuracy(),
        robustness=robustness(),
        int8=int8(),
        rewrites=rewrites(),
        roofline=roofline,
    )
    output = tmp_path / "report.html"
    assert main(["report", *files, "-o", str(output)]) == 0
    assert "from 7 records" in capsys.readouterr().out
    content = output.read_text(encoding="utf-8")
    page = Page(content)
    sections = [
        "Latency",
        "Beside other programs",
        "Accuracy by yaw",
        "Accuracy against latency",
        "Robustness",
        "INT8",
        "Rewritten graph",
        "Roofline",
    ]
    assert page.headings == [*sections, "Not in this report", "Where the figures come from"]  # films have a test below
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 + 1 + 1 + 1 + 2 + 1 + 1 + 1 + 4
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert "@media print" in content
    assert "prefers-color-scheme: dark" in content
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("#s") for link in links)  # nothing is fetched from anywhere
    assert not re.search(r"url\((?!#)|@import|<script", content)
    assert [tag for tag, attributes in page.tags if tag == "section" and attributes.get("id")] == ["section"] * len(
        sections
    )


def test_figures_of_the_records_are_on_the_page(write, roofline):
    files = write(a=latency(), b=peers(), c=accuracy(), d=rewrites(), e=roofline)
    text = Page(render(read_records([Path(file) for file in files]))).text
    for wanted in (
        "mind the <load>",
        "400 ms",
        "p99 ",
        "43,867",
        "one thread",
        "2.83",
        "1.95 × as fast",
        "Jetson Thor T5000",
        "Fast CPU, 2 cores",
    ):
        assert wanted in text, wanted


def test_robustness_cuts_long_bars_and_counts_missed_faces():
    record = Record(Path("robustness.json"), "robustness", robustness())
    clean, roll = charts_of([record])
    assert [(span.label, span.high, span.value) for span in roll.spans] == [
        ("roll 30°", 5.67, "5.7, 7 missed"),
        ("roll 30°", 5.67, "5.7"),
        ("roll 180°", 20, "71.4, 7 missed"),
        ("roll 180°", 20, "71.4"),
    ]
    assert [span.colour for span in clean.spans] == [0, 1]
    (table,) = make_page([record]).sections[0].blocks[0].tables
    assert table.rows[-1] == ("no face", "detected", "120", "3", "–", "3.10", "–", "1.00", "0.10", "0.90", "–")


def test_late_frames_are_counted_in_the_last_column():
    """A tail many times the median would squeeze everything else into one column."""
    late = latency()
    late["stages"]["frame"] |= {
        "samples_us": [1000.0] * 97 + [50_000.0] * 3,
        "p50_ms": 1.0,
        "p90_ms": 1.0,
        "p99_ms": 50.0,
        "max_ms": 50.0,
    }
    record = Record(Path("late.json"), "latency", late)
    content = render([record])
    assert "last column: 3 longer, up to 50.00" in content
    assert "p99 50.00 ms →" in content
    chart = next(chart for chart in charts_of([record]) if isinstance(chart, Histogram))
    assert [value > chart.high for _, value in chart.marks] == [False, False, True]


def test_sections_without_data_are_named(write):
    (file,) = write(accuracy=accuracy())
    page = Page(render(read_records([Path(file)])))
    assert page.headings == ["Accuracy by yaw", "Not in this report", "Where the figures come from"]
    assert "Accuracy against latency: python -m benchmarks accuracy and python -m benchmarks run" in page.text
    assert "Roofline: python -m benchmarks roofline" in page.text


def test_error_and_time_meet_by_the_hash_of_the_model():
    """An engine for the GPU has its own hash and its model's; an engine without its accuracy is left out."""
    documents = [
        *[latency(), accuracy(), latency("edge-fp16.onnx", "fp16", 0.5), accuracy("edge-fp16.onnx", 3.3)],
        latency("edge.engine", "int8", 0.2, model_sha256=SHA["edge.onnx"]),
    ]
    records = []
    for i, document in enumerate(documents):
        records.append(Record(Path(f"{i}.json"), "latency" if "kind" in document else "accuracy", document))
    assert sorted(colours_of_points(records)) == [0, 1, 2]
    assert colours_of_points(records[:3]) == [2]


def colours_of_points(records: list[Record]) -> list[int]:
    """Of the plot of error against time."""
    (chart,) = (chart for chart in charts_of(records) if isinstance(chart, ScatterChart))
    return [point.colour for point in chart.points]


def test_names_in_records_cannot_break_the_page(write):
    document = accuracy()
    document["subject"]["file"] = document["table"][0]["boxes"] = '"><script>alert(1)</script>'
    content = render([read_record(Path(write(a=document)[0]))])
    assert "<script" not in content
    Page(content)


def test_figures_that_are_missing_do_not_stop_it(write):
    """Numbers that were not finite are null in the records."""
    late, near, seen = latency(), accuracy(), peers()
    late["stages"]["crop"] |= {"p50_ms": None, "p90_ms": None, "cv": None}
    near["table"][0] |= {"bins": [None, 3.0, None], "mean": None}
    seen["peers"][1]["stages"]["all"] = dict.fromkeys(("median_ms", "p90_ms", "vertices_per_ms"))
    page = Page(render(read_records([Path(file) for file in write(a=late, b=near, c=seen)])))
    assert "–" in page.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1, 2]", "cannot be made of this kind of file"),
        ('{"kind": "weather"}', "cannot be made of this kind of file 'weather'"),
        ('{"kind": "latency", "engine": {}, "stages": {}}', "stages is empty"),
        ('{"kind": "latency", "engine": {}}', "stages is missing"),
        ('{"peers": [], "threads": 1, "interval_ms": 0}', "peers is not a list with something in it"),
        ('{"subject": {}, "table": [{"boxes": "b"}]}', "table[0].measure is missing"),
        (
            '{"plain": {"times_ms": ["fast"]}, "rewritten": {"times_ms": [1]}, "threads": 2}',
            "plain.times_ms[0] is 'fast'",
        ),
        (
            json.dumps(latency()).replace('"samples_us": [', '"samples_us": null, "others": [', 1),
            "stages.crop.samples_us is not a list",
        ),
    ],
)
def test_bad_records_are_refused_in_one_line(content, message, tmp_path, capsys):
    (tmp_path / "bad.json").write_text(content)
    assert main(["report", str(tmp_path / "bad.json"), "-o", str(tmp_path / "report.html")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


@pytest.mark.parametrize(
    ("document", "place", "value", "message"),
    [
        (int8(), ("table", 0, "int8_nme"), 10**60, "table[0].int8_nme is beyond 1e+15"),
        (peers(), ("peers", 1, "stages", "all", "median_ms"), -1e60, "stages.all.median_ms is beyond 1e+15"),
        (peers(), ("peers", 1, "nme"), 3.2, "not a sound peers record (AttributeError: "),
        (peers(), ("films",), [{"name": "x"}], "not a sound peers record (KeyError: "),
        (int8(), ("table", 0, "method"), "\ud800", "half of a surrogate pair"),
        (int8(), ("table", 0, "method"), "\x1b[31m", "table[0].method has control characters"),
        (int8(), ("table", 0, "size"), "a\n" * 5000, "table[0].size is 'a"),
    ],
)
def test_damaged_records_are_named(document, place, value, message, write, tmp_path, capsys):
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert main(["report", *write(good=accuracy(), bad=document), "-o", str(tmp_path / "report.html")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'bad.json'}: ")
    assert message in error
    assert error.count("\n") == 1
    assert len(error) < 600
    assert not (tmp_path / "report.html").exists()


def test_a_film_without_figures_has_its_row(write, repository):
    document = json.loads((repository / "benchmarks" / "results" / "tracking.json").read_text())
    counts = ("frames", "missed", "missed_detected", "nme", "nme_detected", "detector", "changes", "ms", "ms_faces")
    document["table"][0] |= dict.fromkeys((*counts, "ratio"))
    assert "–" in Page(render(read_records([Path(file) for file in write(a=document)]))).text


def test_a_missing_record_or_folder_is_refused(tmp_path, write, capsys):
    assert main(["report", str(tmp_path / "gone.json"), "-o", str(tmp_path / "report.html")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["report", *write(a=accuracy()), "-o", str(tmp_path / "none" / "report.html")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_shapes_are_told_apart():
    assert mismatch({"a": 1.0, "b": [{"c": "x"}]}, {"a": (int, float), "b": [{"c": str}]}) is None
    assert mismatch({"a": True}, {"a": int}) == "a is True"
    assert mismatch({"b": [{"c": "x"}, {"c": 3}]}, {"b": [{"c": str}]}) == "b[1].c is 3"
    assert mismatch([], {"a": int}) == "the file is not an object"


def bars_of(figure: Figure) -> list[tuple[float, float]]:
    """Left end and width of every bar, from top to bottom."""
    return [(patch.get_x(), patch.get_width()) for patch in figure.axes[0].patches]


def lines_of(figure: Figure) -> list[float]:
    """Place of every vertical line across a bar or the chart."""
    return [float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_marker() == "None"]


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_bars_are_as_long_as_their_values():
    figure = draw(BarChart((Bar("one", ((2.0, 0), (3.0, 1)), "5", 6.0), Bar("two", ((10.0, 0),), "10")), "ms"))
    assert bars_of(figure) == [(0, 2), (2, 3), (0, 10)]
    assert lines_of(figure) == [6]
    assert figure.axes[0].get_xlim() == pytest.approx((0, 10.5))


def test_columns_of_a_histogram_are_as_high_as_their_counts():
    marks = (("p50", 2.0), ("p90", 3.0), ("p99", 9.0))
    figure = draw(Histogram((0, 5, 10, 5), 0.0, 4.0, "ms", marks))
    assert [patch.get_height() for patch in figure.axes[0].patches] == [0, 5, 10, 5]
    assert lines_of(figure) == [2, 3]  # p99 lies beyond the axis
    assert len({line.get_linestyle() for line in figure.axes[0].lines}) == 2


def test_spans_share_headings():
    spans = (Span("a", 1, 2, 0, 0.5), Span("a", 2, 4, 1, dot=3), Span("b", 1, 2, 0, value="two"))
    figure = draw(SpanChart(spans, "ms", 0, 4, limit=3))
    assert texts_of(figure) == ["a", "b", "two"]
    assert bars_of(figure) == [(1, 1), (2, 2), (1, 1)]
    assert lines_of(figure) == [3, 0.5]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "o"] == [3]


@pytest.mark.parametrize(("value", "text"), [(0.02, "0.02"), (5.0, "5"), (0.30000000000000004, "0.3"), (1000, "1,000")])
def test_ticks_are_short(value, text):
    assert number(value) == text


def charts_of(records: list[Record]) -> list[Chart]:
    blocks = [block for section in make_page(records).sections for block in section.blocks]
    return [figure.chart for block in blocks for figure in block.figures]


def text_boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is seen, with its place on the drawing."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    hidden = []  # labels of ticks beyond the axis, which are never drawn
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        low, high = sorted(axis.get_view_interval())
        hidden += [tick.label1 for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible() and text not in hidden]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts]


def overlapping(boxes: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    return [(a[0], b[0]) for a, b in combinations(boxes, 2) if a[1].overlaps(b[1])]


def test_no_texts_overlap_or_leave_the_drawing(write, roofline):
    files = write(a=latency(), b=peers(), c=accuracy(), d=int8(), e=rewrites(), f=roofline, g=robustness())
    charts = charts_of(read_records([Path(file) for file in files]))
    assert len(charts) == 14
    for chart in charts:
        figure = draw(chart)
        boxes = text_boxes(figure)
        assert not overlapping(boxes)
        outside = [text for text, box in boxes if box.x0 < 0 or box.x1 > WIDTH or box.y0 < -1]
        assert not outside


def test_labels_of_crowded_points_keep_apart():
    points = tuple(Point(1.0 + 0.02 * i, 3.2 + 0.004 * i, f"engine {i}", 0) for i in range(6))
    boxes = text_boxes(draw(ScatterChart(points, "ms", "NME")))
    assert sum(text.startswith("engine") for text, _ in boxes) == 6
    assert not overlapping(boxes)


def test_a_drawing_is_the_same_every_time_and_follows_the_page():
    chart = ScatterChart((Point(1.0, 3.2, "$a$ <b> & c", 0), Point(2.0, 3.4, "d", 4)), "ms", "NME")
    svg = to_svg(chart, 'error "against" time', "chart 0")
    assert svg == to_svg(chart, 'error "against" time', "chart 0")
    root = ET.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", 'error "against" time')
    assert "$a$ <b> & c" in "".join(root.itertext())  # text, and no formula
    assert "var(--c0)" in svg
    assert "var(--c4)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b|<style|<metadata", svg)


def test_identifiers_of_a_page_are_unique(write, roofline):
    files = write(a=latency(), b=peers(), c=accuracy(), d=int8(), e=rewrites(), f=roofline, g=robustness())
    page = Page(render(read_records([Path(file) for file in files])))
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(names) == len(set(names))


def test_every_figure_stands_beside_a_table(write, roofline):
    """Charts alone would leave out readers of text."""
    files = write(a=latency(), b=peers(), c=accuracy(), d=int8(), e=rewrites(), f=roofline, g=robustness())
    page = make_page(read_records([Path(file) for file in files]))
    blocks = [block for section in page.sections for block in section.blocks]
    assert all(block.tables for block in blocks if block.figures)


def test_every_record_of_the_repository_has_its_section(tmp_path):
    """Records that commands wrote for the docs: each is taken, and none of the sections that they are for is empty."""
    paths = sorted((Path(__file__).parents[3] / "benchmarks" / "results").glob("*.json"))
    assert len(paths) >= 16
    out = tmp_path / "report.html"
    assert main(["report", *map(str, paths), "-o", str(out)]) == 0
    page = out.read_text()
    Page(page)  # every tag is closed
    for path in paths:
        assert path.name in page
    for title in ("Films, tracked", "Jitter and lag", "Trainings with parts left out"):
        assert f">{title}</h2>" in page
