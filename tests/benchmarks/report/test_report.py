"""The report: what it takes, what it shows of it, and plots that are right and legible."""

from __future__ import annotations

import html.parser
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.report.record_files import Record, mismatch, read_record, read_records
from benchmarks.report.report import render
from benchmarks.report.svg import LETTER_PX, NARROWEST_PX, Axis, Bar, Point, Range, bars, histogram, linear_ticks, ranges, scatter

SHA = {"edge.onnx": "a" * 64, "edge-fp16.onnx": "b" * 64, "edge.engine": "c" * 64}
ORIGIN = {"command": "python -m benchmarks …", "machine": {"cpu": "Fast CPU", "cores": 2}, "versions": {"python": "3.11"}, "commit": None}


def stage(median_ms: float) -> dict[str, Any]:
    samples = median_ms * np.exp(0.03 * np.random.default_rng(0).standard_normal(500))
    p50, p90, p99 = np.percentile(samples, (50, 90, 99)).tolist()
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": samples.max(), "cv": 0.03, "samples_us": (1000 * samples).round(1).tolist()}


def latency(file: str = "edge.onnx", precision: str = "fp32", frame_ms: float = 0.9, **engine: str) -> dict[str, Any]:
    stages = {"crop": stage(0.09), "network": stage(0.76), "decode": stage(0.04), "frame": stage(frame_ms), "frame+detection": stage(11.0)}
    engine = {"file": file, "sha256": SHA[file], "precision": precision, **engine}
    return {**ORIGIN, "kind": "latency", "engine": engine, "stages": stages, "cold_start_ms": 400.0, "warnings": ["mind the <load>"]}


def accuracy(file: str = "edge.onnx", mean: float = 3.2) -> dict[str, Any]:
    lines = [
        {"boxes": boxes, "measure": measure, "faces": 1000, "mean": mean, "bins": [2.83, 3.58, 4.29], "balanced": 3.57}
        for boxes in ("ground-truth", "detected")
        for measure in ("68 points 2D", "dense 2D")
    ]
    return {**ORIGIN, "subject": {"file": file, "sha256": SHA[file]}, "table": lines}


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
        {"model": "edge", "target": target, "method": method, "fp32_nme": 3.2, "int8_nme": 3.25, "shift_px": 0.4, "size": 0.27}
        for target in ("tensorrt", "cpu")
        for method in ("entropy", "mse")
    ]
    return {**ORIGIN, "table": lines}


def rewrites() -> dict[str, Any]:
    return {**ORIGIN, "plain": {"times_ms": [38.0, 40.0, 39.0]}, "rewritten": {"times_ms": [20.0, 19.5, 21.0]}, "threads": 2}


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
    files = write(latency=latency(), peers=peers(), accuracy=accuracy(), int8=int8(), rewrites=rewrites(), roofline=roofline)
    output = tmp_path / "report.html"
    assert main(["report", *files, "-o", str(output)]) == 0
    assert "from 6 records" in capsys.readouterr().out
    content = output.read_text(encoding="utf-8")
    page = Page(content)
    sections = ["Latency", "Beside other programs", "Accuracy by yaw", "Accuracy against latency", "INT8", "Rewritten graph", "Roofline"]
    assert page.headings == [*sections, "Where the figures come from"]
    assert sum(tag == "svg" for tag, _ in page.tags) == 2 + 1 + 1 + 1 + 1 + 1 + 1 + 4
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert "@media print" in content
    assert "prefers-color-scheme: dark" in content
    links = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(link.startswith("#s") for link in links)  # nothing is fetched from anywhere
    assert not re.search(r"url\(|@import|<script", content)
    assert [tag for tag, attributes in page.tags if attributes.get("id")] == ["section"] * len(sections)


def test_figures_of_the_records_are_on_the_page(write, roofline):
    text = Page(render(read_records([Path(file) for file in write(a=latency(), b=peers(), c=accuracy(), d=rewrites(), e=roofline)]))).text
    for wanted in ("mind the <load>", "400 ms", "p99 ", "43,867", "one thread", "2.83", "1.95 × as fast", "Jetson Thor T5000", "Fast CPU, 2 cores"):
        assert wanted in text, wanted


def test_late_frames_are_counted_in_the_last_column():
    """A tail many times the median would squeeze everything else into one column."""
    late = latency()
    late["stages"]["frame"] |= {"samples_us": [1000.0] * 97 + [50_000.0] * 3, "p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 50.0, "max_ms": 50.0}
    content = render([Record(Path("late.json"), "latency", late)])
    assert "last column: 3 longer, up to 50.00" in content
    assert "p99 50.00 ms →" in content
    plot = content.split('aria-label="frame"')[1].split("</svg>")[0]
    assert len(re.findall('class="mark m', plot)) == 2  # p99 lies beyond the axis


def test_sections_without_data_are_named(write):
    (file,) = write(accuracy=accuracy())
    page = Page(render(read_records([Path(file)])))
    assert page.headings == ["Accuracy by yaw", "Not in this report", "Where the figures come from"]
    assert "Accuracy against latency: python -m benchmarks accuracy and python -m benchmarks run" in page.text
    assert "Roofline: python -m benchmarks roofline" in page.text


def test_error_and_time_meet_by_the_hash_of_the_model():
    """An engine for the GPU has a hash of its own and that of the model it was built from; an engine without its accuracy is left out."""
    documents = [
        *[latency(), accuracy(), latency("edge-fp16.onnx", "fp16", 0.5), accuracy("edge-fp16.onnx", 3.3)],
        latency("edge.engine", "int8", 0.2, model_sha256=SHA["edge.onnx"]),
    ]
    records = [Record(Path(f"{i}.json"), "latency" if "kind" in document else "accuracy", document) for i, document in enumerate(documents)]
    assert sorted(colours_of_points(records)) == ["c0", "c1", "c2"]
    assert colours_of_points(records[:3]) == ["c2"]


def colours_of_points(records: list[Record]) -> list[str]:
    """Of the plot of error against time."""
    return re.findall(r'<circle class="(c\d)"', re.search(r'aria-label="error against time".*?</svg>', render(records), re.DOTALL)[0])


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
        ('{"plain": {"times_ms": ["fast"]}, "rewritten": {"times_ms": [1]}, "threads": 2}', "plain.times_ms[0] is 'fast'"),
        (json.dumps(latency()).replace('"samples_us": [', '"samples_us": null, "others": [', 1), "stages.crop.samples_us is not a list"),
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


def test_a_missing_record_or_folder_is_refused(tmp_path, write, capsys):
    assert main(["report", str(tmp_path / "gone.json"), "-o", str(tmp_path / "report.html")]) == 1
    assert "no such file" in capsys.readouterr().err
    assert main(["report", *write(a=accuracy()), "-o", str(tmp_path / "none" / "report.html")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_committed_records_make_a_report(repository):
    """Whatever a command wrote into the repository can be shown."""
    records = read_records(sorted((repository / "benchmarks" / "results").glob("*.json")))
    assert {record.kind for record in records} >= {"accuracy", "int8", "peers", "rewrites"}
    Page(render(records))


def test_shapes_are_told_apart():
    assert mismatch({"a": 1.0, "b": [{"c": "x"}]}, {"a": (int, float), "b": [{"c": str}]}) is None
    assert mismatch({"a": True}, {"a": int}) == "a is True"
    assert mismatch({"b": [{"c": "x"}, {"c": 3}]}, {"b": [{"c": str}]}) == "b[1].c is 3"
    assert mismatch([], {"a": int}) == "the file is not an object"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0, 4.7, [0, 1, 2, 3, 4]), (0.83, 1.72, [1, 1.2, 1.4, 1.6]), (9, 37, [10, 20, 30])],
)
def test_linear_ticks_are_round(low, high, ticks):
    assert linear_ticks(low, high) == pytest.approx(ticks)


def test_axes_place_values():
    linear, decades = Axis(0, 10, "x"), Axis(0.01, 100, "x", logarithmic=True)
    assert [linear.at(value) for value in (0, 5, 10, 99)] == pytest.approx([2, 50, 98, 98])
    assert [decades.at(value) for value in (0, 0.01, 0.1, 1, 100)] == pytest.approx([2, 2, 26, 50, 98])
    assert decades.ticks() == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert Axis(0.5, 20, "x", logarithmic=True).ticks() == pytest.approx([0.5, 1, 2, 5, 10, 20])


def drawn(svg: str, kind: str) -> list[dict[str, str]]:
    return [element.attrib | {"text": element.text or ""} for element in ET.fromstring(svg).iter(kind)]


def test_bars_are_as_long_as_their_values():
    svg = bars("b", [Bar("one", ((2.0, 0), (3.0, 1)), "5", 6.0), Bar("two", ((10.0, 0),), "10")], Axis(0, 10, "ms"))
    rects = [(float(rect["x"][:-1]), float(rect["width"][:-1])) for rect in drawn(svg, "rect")]
    assert rects == [pytest.approx((2, 0.2 * 96), abs=0.01), pytest.approx((2 + 0.2 * 96, 0.3 * 96), abs=0.01), pytest.approx((2, 96), abs=0.01)]
    assert [line["x1"] for line in drawn(svg, "line") if line["class"] == "mark"] == ["59.60%"]


def test_columns_of_a_histogram_are_as_high_as_their_counts():
    svg = histogram("h", [0, 5, 10, 5], Axis(0, 4, "ms"), [2.0, 3.0, 9.0])
    assert [float(rect["height"]) for rect in drawn(svg, "rect")] == [75, 150, 75]
    assert [(line["class"], line["x1"]) for line in drawn(svg, "line") if "mark" in line["class"]] == [("mark m0", "50.00%"), ("mark m1", "74.00%")]


def test_ranges_share_headings():
    svg = ranges("r", [Range("a", 1, 2, 0, 0.5), Range("a", 2, 4, 1, dot=3), Range("b", 1, 2, 0, value="two")], Axis(0, 4, "ms"), limit=3)
    assert [text["text"] for text in drawn(svg, "text") if text["class"] == "label"] == ["a", "b"]
    assert [text["text"] for text in drawn(svg, "text") if text["class"] == "small"] == ["two"]
    assert [line["x1"] for line in drawn(svg, "line") if line["class"] == "limit"] == ["74.00%"]
    assert [circle["cx"] for circle in drawn(svg, "circle")] == ["74.00%"]


def text_boxes(svg: str, width: float = NARROWEST_PX) -> list[tuple[float, float, float, float, str]]:
    """Where texts lie in pixels when the plot is ``width`` wide."""
    boxes = []
    for text in drawn(svg, "text"):
        length, x = LETTER_PX * len(text["text"]), float(text["x"][:-1]) / 100 * width + float(text.get("dx", 0))
        left = x - {"start": 0, "middle": length / 2, "end": length}[text["text-anchor"]]
        boxes.append((left, float(text["y"]) - 10, left + length, float(text["y"]) + 1, text["text"]))
    return boxes


def overlapping(boxes: list[tuple[float, float, float, float, str]]) -> list[tuple[str, str]]:
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    return [(a[4], b[4]) for a, b in pairs if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


def test_no_texts_overlap_or_leave_a_phone(write, roofline):
    files = write(a=latency(), b=peers(), c=accuracy(), d=int8(), e=rewrites(), f=roofline)
    plots = re.findall(r"<svg.*?</svg>", render(read_records([Path(file) for file in files])), re.DOTALL)
    assert len(plots) == 12
    for plot in plots:
        boxes = text_boxes(plot)
        assert not overlapping(boxes)
        assert all(box[0] >= -1 and box[2] <= NARROWEST_PX + 1 for box in boxes), [box for box in boxes if box[0] < -1 or box[2] > NARROWEST_PX + 1]


def test_labels_of_crowded_points_keep_apart():
    points = [Point(1.0 + 0.02 * i, 3.2 + 0.004 * i, f"engine {i}", 0) for i in range(6)]
    svg = scatter("s", points, Axis(0.3, 4, "ms", logarithmic=True), 3.0, 3.5, "NME")
    labels = [box for box in text_boxes(svg) if box[4].startswith("engine")]
    assert len(labels) == 6
    assert not overlapping(labels)
