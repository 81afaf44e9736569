"""Records of measurements: each belongs to a page, tells the revision that made it, and the page has its figures."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
ROOMS = ("benchmarks", "calibration", "docs", "export", "runtime", "tests", "training")
RECORDS = sorted(RESULTS.glob("*.json"))
# Their weights are not kept, so that nobody can make them again; each says so itself.
NOT_REPEATABLE = {"2dasl_ablation.json", "2dasl_accuracy.json"}


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def record(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def git(*command: str) -> str:
    return subprocess.run(["git", "-C", str(REPOSITORY), *command], capture_output=True, text=True, check=True).stdout


def has_history() -> bool:
    """True in a checkout with all of its revisions."""
    try:
        return (REPOSITORY / ".git").exists() and git("rev-parse", "--is-shallow-repository").strip() == "false"
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    """Those in backticks; NAME stands for a new one."""
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./-]+\.\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if "NAME" not in name and not (REPOSITORY / name).exists()] == []


@pytest.mark.parametrize("path", sorted(RESULTS.iterdir()), ids=lambda path: path.name)
def test_every_result_belongs_to_a_page(path):
    assert any(f"results/{path.stem}." in page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_a_record_tells_command_and_machine(path):
    document = record(path.name)
    if path.name in NOT_REPEATABLE:
        assert document["not_repeatable"].endswith("not kept.")
    else:
        assert "not_repeatable" not in document
        assert document["command"].startswith("python -m benchmarks ")
        assert document["commit"]["dirty"] is ("committed_as" in document["commit"])
        assert document["machine"]["cpu"]
        assert document["versions"]["python"]


@pytest.mark.skipif(not has_history(), reason="not all revisions are here")
@pytest.mark.parametrize(
    "path", [path for path in RECORDS if path.name not in NOT_REPEATABLE], ids=lambda path: path.name
)
def test_a_record_names_a_revision_of_this_history_that_has_the_command(path):
    document = record(path.name)
    revision = document["commit"]["revision"]
    git("merge-base", "--is-ancestor", revision, "HEAD")  # raises if not
    if later := document["commit"].get("committed_as"):  # the changes of that time: none in what was measured
        git("merge-base", "--is-ancestor", later, "HEAD")
        changed = git("diff", "--name-only", revision, later).splitlines()
        assert [name for name in changed if not name.startswith(("benchmarks/results/", "docs/", "tests/"))] == []
    command = document["command"].split()[3]
    assert f'"{command}"' in git(
        "grep", "-hE", f'add_parser\\(\\s*"{command}"|^ +"{command}"', revision, "--", "benchmarks"
    )


def two(value: float) -> str:
    return f"{value:.2f}"


def accuracy(name: str, boxes: str, measure: str) -> dict[str, Any]:
    return next(row for row in record(name)["table"] if (row["boxes"], row["measure"]) == (boxes, measure))


def errors(name: str, boxes: str, measure: str, bold: bool = True) -> str:
    """Return the cells of the yaw bins and of their mean."""
    row = accuracy(name, boxes, measure)
    balanced = f"**{two(row['balanced'])}**" if bold else two(row["balanced"])
    return " | ".join([*map(two, row["bins"]), balanced])


def accuracy_rows() -> Iterator[tuple[str, str]]:
    edge, mb05 = "edge_accuracy.json", "mb05_accuracy.json"
    missed = len(record(edge)["missed"]["detected"])
    yield "README.md", f"| ground truth | {errors(edge, 'ground-truth', '68 points 2D')} |"
    yield "README.md", f"| detected, {missed} missed | {errors(edge, 'detected', '68 points 2D')} |"
    for boxes in ("ground-truth", "detected"):
        for measure in ("68 points 2D", "68 points 2D, re-annotated", "68 points 3D", "dense 2D", "dense 3D"):
            if (boxes, measure[-2:]) == ("detected", "3D"):
                continue
            row, cells = accuracy(edge, boxes, measure), errors(edge, boxes, measure, measure == "68 points 2D")
            yield (
                "MODEL_CARD.md",
                f"| {boxes.replace('-', ' ')} | {measure} | {row['faces']} | {two(row['mean'])} | {cells} |",
            )
    for boxes, measure, start in (
        ("ground-truth", "68 points 2D", "ground truth | 68 points, 2D"),
        ("ground-truth", "68 points 2D, re-annotated", "ground truth | 68 points, 2D, re-annotated"),
        ("ground-truth", "dense 2D", "ground truth | 43,867 vertices, 2D"),
        ("detected", "68 points 2D", f"detected (YuNet; {missed} faces missed) | 68 points, 2D"),
    ):
        row, cells = accuracy(edge, boxes, measure), errors(edge, boxes, measure, measure == "68 points 2D")
        yield "docs/results.md", f"| {start} | {row['faces']} | {two(row['mean'])} | {cells} |"
    row = accuracy(mb05, "ground-truth", "68 points 2D")
    cells = errors(mb05, "ground-truth", "68 points 2D", bold=False)
    yield "docs/results.md", f"| 68 points, 2D | {row['faces']} | {two(row['mean'])} | {cells} |"
    page, missed = "docs/coefficients.md", len(record(mb05)["missed"]["detected"])
    yield page, f"| ground truth | 68 points, 2D | {errors(mb05, 'ground-truth', '68 points 2D')} |"
    yield page, f"| ground truth | 53,215 vertices, 2D | {errors(mb05, 'ground-truth', 'dense 2D', bold=False)} |"
    yield page, f"| detected, {missed} missed | 68 points, 2D | {errors(mb05, 'detected', '68 points 2D')} |"
    for name, place, start in (
        ("3ddfa_gt.json", "README.md", "| 3DDFA_V2 mb05, ground truth |"),
        ("3ddfa_gt.json", page, "| 3DDFA_V2's own predictions, ground truth | 68 points, 2D |"),
    ):
        yield place, f"{start} {errors(name, 'given', '68 points 2D', bold=False)} |"
    for name in ("3ddfa_gt.json", "3ddfa_yunet.json"):
        row = accuracy(name, "given", "68 points 2D")
        bins = " / ".join(map(two, row["bins"]))
        yield "MODEL_CARD.md", f"{two(row['mean'])} ({bins}; balanced {two(row['balanced'])})"
    own = accuracy("edge_coefficients_accuracy.json", "ground-truth", "68 points 2D")
    yield page, f"{' / '.join(map(two, own['bins']))}, balanced **{two(own['balanced'])}**"
    whole = accuracy("2dasl_accuracy.json", "ground-truth", "68 points 2D")
    yield page, f"{' / '.join(map(two, whole['bins']))}, balanced **{two(whole['balanced'])}**"


def medians(peer: dict[str, Any], stages: Sequence[str] = ("crop", "network", "decode", "total")) -> list[str]:
    return [two(peer["stages"][stage]["median_ms"]) for stage in stages]


def peers_of(name: str) -> dict[str, dict[str, Any]]:
    return {peer["name"]: peer for peer in record(name)["peers"]}


def speed_rows() -> Iterator[tuple[str, str]]:
    peers = peers_of("peers.json")
    mediapipe, faces = peers["MediaPipe Face Mesh 0.10.21"], record("peers.json")["data"]["faces"]
    (whole,) = mediapipe["stages"].values()
    for name, short, long in (
        ("this runtime, int8", "**this runtime, INT8**", "**this runtime, INT8**"),
        ("this runtime, fp32", "", "this runtime, FP32"),
        ("3DDFA_V2 mb05", "3DDFA_V2 (mb05)", "3DDFA_V2 (mb05, its crop and decode)"),
        ("PRNet's steps", "PRNet's Python steps, our model", "PRNet's Python steps round our model, FP32"),
    ):
        ours = name == "this runtime, int8"
        *parts, total = medians(peers[name])
        times = f"{' | '.join(parts)} | {f'**{total}**' if ours else total}"
        stage = peers[name]["stages"]["total"]
        per_ms = f"{stage['vertices_per_ms']:,.0f}"
        if short:
            yield "README.md", f"| {short} | {times} |"
        yield (
            "docs/results.md",
            f"| {long} | {times} | {two(stage['p90_ms'])} | {peers[name]['vertices']:,} | "
            f"{f'**{per_ms}**' if ours else per_ms} |",
        )
    yield "README.md", f"| MediaPipe 0.10.21 (tracking) | | | | {two(whole['median_ms'])} |"
    yield (
        "docs/results.md",
        f"| MediaPipe Face Mesh 0.10.21 (tracking; found {mediapipe['faces']} of {faces}) "
        f"|  |  |  | {two(whole['median_ms'])} | {two(whole['p90_ms'])} | 468 | {whole['vertices_per_ms']:.0f} |",
    )
    films = {(row["film"], row["name"]): row["median_ms"] for row in record("peers_films.json")["films"]}
    for name, label in (
        ("this runtime, int8, tracked", "**this runtime, INT8, tracked**"),
        ("this runtime, int8, detected in every frame", "this runtime, INT8, detected in every frame"),
        ("MediaPipe Face Mesh 0.10.21, tracked", "MediaPipe Face Mesh 0.10.21, tracked"),
        ("3DDFA_V2 mb05, tracked", "3DDFA_V2 mb05, tracked as in its demo"),
    ):
        times = [two(films[film, name]) for film in ("obama.mp4", "two_people.mp4")]
        yield (
            "docs/results.md",
            f"| {label} | {' | '.join(f'**{time}**' if '**' in label else time for time in times)} |",
        )
    ours, theirs = (
        [f"{films[film, name]:.1f}" for film in ("two_people.mp4", "obama.mp4")]
        for name in ("this runtime, int8, tracked", "MediaPipe Face Mesh 0.10.21, tracked")
    )
    yield "README.md", f"{ours[0]} and {ours[1]} ms, MediaPipe {theirs[0]} and {theirs[1]}."
    one, eight = peers_of("peers_mb05.json"), peers_of("peers_mb05_8_faces.json")
    for name, label in (
        ("this runtime, fp32", "this runtime"),
        ("3DDFA_V2 mb05", "3DDFA_V2's steps"),
        ("this runtime, fp32, landmarks alone", "this runtime, landmarks alone"),
        ("3DDFA_V2 mb05, landmarks alone", "3DDFA_V2's steps, landmarks alone"),
    ):
        cells = [*medians(one[name]), *medians(eight[name], ("crop", "decode"))]
        yield "docs/coefficients.md", f"| {label} | {' | '.join(cells)} |"


def int8_rows() -> Iterator[tuple[str, str]]:
    forms = {
        ("edge", "tensorrt"): "`--target tensorrt` (symmetric INT8, tail in FP16)",
        ("edge", "cpu"): "`--target cpu` (ONNX Runtime, stem and tail in FP32)",
    }
    for name, label in (("edge", "edge"), ("prnet", "PRNet"), ("mb05", "mb05")):
        table = record(f"int8_{name}.json")["table"]
        for target in ("tensorrt", "cpu"):
            rows = {row["method"]: row for row in table if row["target"] == target}
            cells = []
            for method in ("entropy", "percentile", "mse", "minmax"):
                increase = 100 * (rows[method]["int8_nme"] / rows[method]["fp32_nme"] - 1)
                cell = f"{rows[method]['int8_nme']:.3f} ({increase:+.2f} %)".replace("-", "−")
                cells.append(f"**{cell}**" if method == "mse" else cell)
            form = forms.get((name, target), f"`--target {target}`")
            start = f"| {label} | {rows['mse']['fp32_nme']:.3f} | {form} | {' | '.join(cells)} | "
            yield "docs/results.md", f"{start}{rows['mse']['size']:.3f} |"
    rewrites = record("prnet_rewrites.json")
    times = [f"{median(rewrites[form]['times_ms']):.1f}" for form in ("plain", "rewritten", "int8")]
    yield "docs/results.md", f"{times[0]}, {times[1]} and {times[2]} ms (two threads, medians)"
    yield "docs/results.md", f"{rewrites['ratio']['median']:.2f} times as fast"


def device_rows() -> Iterator[tuple[str, str]]:
    frames = {
        (row["network"], row["device"]): row for row in record("roofline.json")["frames"] if row["precision"] == "fp16"
    }
    for device, label in (
        ("orin-nano-super", "Jetson Orin Nano Super"),
        ("agx-orin", "Jetson AGX Orin"),
        ("rtx-4060", "RTX 4060"),
        ("h200", "H200"),
    ):
        bands = [
            frames[network, device][part] for network in ("prnet", "edge") for part in ("network_ms", "tracked_ms")
        ]
        yield (
            "README.md",
            f"| {label} | {' | '.join(f'{two_digits(low)}–{two_digits(high)}' for low, _, high in bands)} |",
        )


def two_digits(value: float) -> str:
    """Return a number of milliseconds with two digits that count."""
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def soak_rows() -> Iterator[tuple[str, str]]:
    soak = record("soak.json")
    opened, running, lines = soak["opened"], soak["running"], soak["lines"]
    count, frames = opened["opens"], sum(line["frames"] for line in lines)
    for start, memory, held in (
        (f"after {count // 10} of {count} opens", opened["before"]["memory_mb"], opened["before"]),
        (f"after {count}", opened["after"]["memory_mb"], opened["after"]),
        (f"first of {frames:,} frames", lines[0]["memory_mb"], running["before"]),
        ("last", lines[-1]["memory_mb"], running["after"]),
    ):
        yield "docs/regression.md", f"| {start} | {memory:.1f} | {held['descriptors']} | {held['threads']} |"


def tracking_rows() -> Iterator[tuple[str, str]]:
    for row in record("tracking.json")["table"]:
        share, ratio = f"{row['detector']:.1f}", two(row["ratio"])
        if row["film"].endswith(".mp4"):
            yield "docs/tracking.md", f"| {row['film']} | – | – | – | – | – | {share} | – | {ratio} |"
        else:
            counts = [f"{row[name]:.0f}" for name in ("visible", "missed", "missed_detected")]
            cells = [*counts, two(row["nme"]), two(row["nme_detected"]), share, f"{row['changes']:.0f}", ratio]
            yield "docs/tracking.md", f"| {row['film']} | {' | '.join(cells)} |"


@pytest.mark.parametrize(
    ("page", "row"),
    [
        pytest.param(page, row, id=f"{page}:{row[:40]}")
        for rows in (accuracy_rows, speed_rows, int8_rows, device_rows, soak_rows, tracking_rows)
        for page, row in rows()
    ],
)
def test_figures_of_a_page_are_those_of_the_record(page, row):
    text = text_of(page)
    assert row in (text if row.startswith("|") else " ".join(text.split()))
