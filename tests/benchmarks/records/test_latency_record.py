"""Latency records: written and read again, and the ones of the repository."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.records.latency_record import (
    LatencyMeasurement,
    comparison_facts,
    format_record,
    latency_document,
    read_latency_record,
    stage_samples,
    without_samples,
)
from benchmarks.records.provenance import write_json
from runtime.errors import FaceMeshError

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"


def measurement(samples_ms: np.ndarray) -> LatencyMeasurement:
    source = {"file": "face.jpg", "sha256": "b" * 64, "pictures": 1, "size_wh": [640, 480]}
    return LatencyMeasurement(
        engine={"file": "edge.onnx", "sha256": "a" * 64, "precision": "fp32"},
        settings={"source": source, "threads": 2},
        stages={"crop": samples_ms, "frame": 2 * samples_ms},
        cold_starts=[{"total": total, "import": 1.0} for total in (300.0, 100.0, 200.0)],
        whole_frame="frame",
        idle_s=5.0,
        after_idle_ms=[3.0, 1.0, 2.0],
        allocations={"frames": 1, "blocks_left": 0.0, "bytes_left": 0.0, "peak_bytes": 2e6},
        peak_memory_mb=None,
        conditions={"before": {"power_mode": "15W"}, "after": {"power_mode": "15W"}},
    )


def test_a_written_record_is_read_again(tmp_path):
    samples = np.linspace(1.0, 2.0, 50)
    path = tmp_path / "run.json"
    write_json(path, latency_document(measurement(samples)))
    record = read_latency_record(path)
    assert record.name == "run.json"
    assert record.document["cold_start_ms"] == 200.0
    assert record.document["first_after_idle_ms"] == 2.0
    facts = comparison_facts(record)
    assert facts["the engine"] == "a" * 64
    assert facts["the power mode"] == "15W"
    assert facts["--threads"] == 2
    found = stage_samples(record, least_frames=50)
    np.testing.assert_allclose(found["crop"], 1000 * samples, atol=0.051)
    np.testing.assert_allclose(found["frame"], 2000 * samples, atol=0.051)
    with pytest.raises(FaceMeshError, match=r"run\.json: stage crop has 50 frames, a comparison needs 51"):
        stage_samples(record, least_frames=51)


def test_text_and_terminal_form():
    document = latency_document(measurement(np.full(30, 1.5)))
    text = format_record(document)
    assert "edge.onnx (fp32) on" in text
    assert "1 × face.jpg, 640 × 480 px" in text
    assert "the process held unknown at most" in text
    short = without_samples(document)
    assert short["stages"]["crop"] == {**document["stages"]["crop"], "samples_us": None}
    assert document["stages"]["crop"]["samples_us"] == [1500.0] * 30


def test_records_of_the_repository_are_read():
    path = RESULTS / "latency_edge.json"
    record = read_latency_record(path)
    assert comparison_facts(record)["the engine"] == json.loads(path.read_text())["engine"]["sha256"]
    assert {"crop", "network", "decode", "frame"} <= stage_samples(record, least_frames=30).keys()
