"""``python -m benchmarks compare`` with two records: verdicts, exit codes and refusals."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.records.latency_statistics import Interval
from benchmarks.regression.interleave import verdict


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return ``write(name, factors, change)`` for the record of a run.

    Its stages took ``factors`` of the usual time; ``change`` edits the document.
    """
    monkeypatch.chdir(tmp_path)

    def write_record(
        name: str,
        change: Callable[[dict[str, Any]], object] = lambda document: None,
        frames: int = 400,
        **factors: float,
    ) -> str:
        rng = np.random.default_rng(len(name))
        usual = {"crop": 80, "network": 1000, "decode": 40}
        stages = {
            stage: {
                "samples_us": (usual[stage] * factors.get(stage, 1) * np.exp(0.05 * rng.standard_normal(frames)))
                .round(1)
                .tolist()
            }
            for stage in usual
        }
        document = {
            "kind": "latency",
            "format": 1,
            "versions": {"python": "3.11.7", "numpy": "2.4"},
            "machine": {
                "system": "Linux",
                "architecture": "aarch64",
                "cpu": "Cortex-A78AE",
                "cores": 6,
                "board": "Orin Nano",
                "load": frames,
            },
            "engine": {"file": "edge.onnx", "sha256": "a" * 64},
            "settings": {"source": {"file": "face.jpg", "sha256": "b" * 64, "pictures": 1}, "threads": None},
            "conditions": {"before": {"power_mode": "15W", "governor": "performance", "temperatures_c": {"cpu": 40}}},
            "stages": stages,
        }
        document = copy.deepcopy(document)
        change(document)
        Path(name).write_text(json.dumps(document))
        return name

    return write_record


def test_the_same_speed_passes(write, capsys):
    assert main(["compare", write("new.json"), write("baseline.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["crop", "network", "decode"]
    assert all(line.endswith("as fast") for line in lines[1:4])
    assert lines[-1].startswith("passed")


def test_a_slower_stage_fails_and_is_named(write, capsys):
    assert (
        main(
            [
                "compare",
                write("new.json", decode=1.2),
                write("baseline.json"),
                "--max-regression",
                "10%",
                "--json",
                "out.json",
            ]
        )
        == 1
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "failed: decode slower by more than 10 %"
    rows = {row["stage"]: row for row in json.loads(Path("out.json").read_text())["stages"]}
    assert rows["decode"]["verdict"] == "slower"
    assert rows["decode"]["ratio"]["low"] < rows["decode"]["ratio"]["estimate"] < rows["decode"]["ratio"]["high"]
    assert rows["decode"]["ratio"]["estimate"] == pytest.approx(1.2, abs=0.02)
    assert rows["crop"]["verdict"] == "as fast"


@pytest.mark.parametrize(("limit", "code"), [("0.3", 0), ("30%", 0), ("5%", 1), ("0", 1)])
def test_the_limit(write, limit, code):
    assert main(["compare", write("new.json", network=1.2), write("baseline.json"), "--max-regression", limit]) == code


def test_faster_is_said(write, capsys):
    assert main(["compare", write("new.json", decode=0.5), write("baseline.json")]) == 0
    assert "faster" in capsys.readouterr().out


def test_too_few_frames_to_tell_are_undecided(write, capsys):
    assert main(["compare", write("new.json", frames=30, crop=1.1), write("baseline.json", frames=30)]) == 0
    assert "undecided for want of quiet: crop" in capsys.readouterr().out.splitlines()[-1]


def test_other_stages_and_versions_are_noted(write, capsys):
    new = write("new.json", lambda document: (document["stages"].pop("crop"), document["versions"].update(numpy="2.5")))
    assert main(["compare", new, write("baseline.json")]) == 0
    out = capsys.readouterr().out
    assert "note: crop: only in one of the two, not compared" in out
    assert "note: numpy is 2.5, the baseline's was 2.4" in out


def test_some_stages_alone(write, capsys):
    assert main(["compare", write("new.json", decode=1.5), write("baseline.json"), "--stages", "crop,network"]) == 0
    assert "decode" not in capsys.readouterr().out


def change(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return edit


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (change("machine", "cpu", to="Ryzen"), "cpu is Cortex-A78AE, the baseline's is Ryzen"),
        (change("machine", "board", to="AGX Orin"), "board is Orin Nano, the baseline's is AGX Orin"),
        (change("machine", "cores", to=4), "cores is 6, the baseline's is 4"),
        (change("machine", "gpu", to="Orin"), "gpu is None, the baseline's is Orin"),
        (change("conditions", "before", "power_mode", to="7W"), "the power mode is 15W, the baseline's is 7W"),
        (change("conditions", "before", "governor", to="schedutil"), "the governor is performance"),
        (change("engine", "sha256", to="c" * 64), "the engine is aaaaaaaaaaaa…, the baseline's is cccccccccccc…"),
        (change("settings", "source", "sha256", to="c" * 64), "the picture is bbbbbbbbbbbb…"),
        (change("settings", "threads", to=2), "--threads is None, the baseline's is 2"),
    ],
)
def test_baselines_from_elsewhere_are_refused(write, capsys, edit, what):
    assert main(["compare", write("new.json"), write("baseline.json", edit)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert what in error


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (change("kind", to="roofline"), "its kind is roofline"),
        (change("format", to=2), "format 2"),
        (lambda document: document.pop("engine"), "lacks engine"),
        (lambda document: document["engine"].pop("sha256"), "lacks sha256"),
        (change("conditions", to=[]), "conditions must be dict, is list"),
        (lambda document: document.pop("stages"), "lacks stages"),
        (change("stages", to={}), "no stage was measured"),
        (change("stages", "decode", to=5), "stage decode is no object"),
        (change("stages", "decode", "samples_us", to=None), "lacks samples_us"),
        (change("stages", "decode", "samples_us", to=[]), "decode has 0 frames"),
        (change("stages", "decode", "samples_us", to=[1.0] * 29), "decode has 29 frames"),
        (change("stages", "decode", "samples_us", to=[1.0] * 50 + [float("nan")]), "NaN is no number"),
        (change("stages", "decode", "samples_us", to=[1.0] * 50 + [0]), "decode has samples that are no times"),
        (change("stages", "decode", "samples_us", to=[1.0] * 50 + ["1"]), "decode has samples that are no times"),
        (change("stages", "decode", "samples_us", to=[1.0] * 50 + [1e999]), "Infinity is no number"),
        (change("stages", "decode", "samples_us", to=[1.0] * 50 + [10**400]), "401 digits in one number"),
    ],
)
def test_records_that_are_none_are_refused(write, capsys, edit, what):
    assert main(["compare", write("new.json"), write("baseline.json", edit)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: baseline.json: ")
    assert error.count("\n") == 1
    assert what in error


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null", b"1e99"])
def test_files_that_are_no_json_are_refused(write, capsys, content):
    Path("corrupt.json").write_bytes(content)
    assert main(["compare", write("new.json"), "corrupt.json"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: corrupt.json: ")
    assert error.count("\n") == 1


def test_missing_files_and_stages(write, capsys):
    for options, what in (
        (["nowhere.json"], "nowhere.json"),
        (["new.json", "--stages", "pose"], "not both have measured pose"),
    ):
        assert main(["compare", write("new.json"), *options]) == 1
        assert what in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        *([], ["new.json"], ["new.json", "baseline.json", "--against", "HEAD"]),
        *(["new.json", "baseline.json", "--max-regression", limit] for limit in ("-5%", "100%", "nan", "ten")),
    ],
)
def test_usage_errors(write, options, capsys):
    write("new.json")
    with pytest.raises(SystemExit) as exit_code:
        main(["compare", *options])
    assert exit_code.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        *(((1.2, 1.11, 1.3), "slower"), ((1.2, 1.09, 1.3), "undecided")),
        *(((1.05, 1.01, 1.09), "as fast"), ((1, 0.8, 1.05), "as fast"), ((0.8, 0.75, 0.85), "faster")),
    ],
)
def test_verdicts(interval, said):
    assert verdict(Interval(*interval), 0.1) == said


@pytest.mark.parametrize(
    ("interval", "said"),
    [((1.3, 1.25, 1.4), "undecided"), ((1.1, 1, 1.25), "as fast"), ((0.7, 0.6, 0.8), "as fast")],
)
def test_an_end_on_the_limit_is_not_beyond_it(interval, said):
    assert verdict(Interval(*interval), 0.25) == said


def test_a_real_run_is_its_own_baseline(tmp_path, monkeypatch):
    from benchmarks.latency import run

    for name, value in {"WARM_UP_S": 0.01, "IDLE_S": 0.01, "IDLE_RUNS": 1, "COLD_RUNS": 1}.items():
        monkeypatch.setattr(run, name, value)
    record = os.fspath(tmp_path / "run.json")
    assert main(["run", "--frames", "30", "--stages", "crop,decode", "--json", record]) == 0
    assert main(["compare", record, record, "--max-regression", "90%"]) == 0


def without(*stages: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for stage in stages:
            del document["stages"][stage]

    return change


@pytest.mark.parametrize(
    ("new", "baseline", "options", "missing"),
    [
        (without(), without("network"), ["--stages", "crop,network"], "network"),
        (without("crop", "network"), without("decode"), [], "crop, network, decode"),
    ],
)
def test_stages_that_one_side_lacks_are_refused(write, capsys, new, baseline, options, missing):
    assert main(["compare", write("new.json", new), write("baseline.json", baseline), *options]) == 1
    assert f"not both have measured {missing}; run both with the same --stages" in capsys.readouterr().err


def test_a_record_that_cannot_be_written_is_told_first(write, capsys):
    assert main(["compare", write("new.json"), write("baseline.json"), "--json", "gone/c.json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "gone" in err


def test_a_model_that_is_not_there(capsys, tmp_path):
    assert main(["compare", "--against", "HEAD", "--engine", str(tmp_path / "no.onnx")]) == 1
    assert "no model file there; check the path given to --engine" in capsys.readouterr().err
