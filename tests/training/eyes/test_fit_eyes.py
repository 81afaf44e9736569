"""The network of eye openings is made from labelled eyes, and reads those it has not seen."""

from __future__ import annotations

import io
import json
import tarfile

import cv2
import numpy as np
import pytest

from runtime.expressions.expression import BLINK_BELOW
from runtime.models.shipped import ASSETS
from training.__main__ import main
from training.eyes.eye_samples import EyeSamples, marked_openings

pytest.importorskip("torch", reason="needs PyTorch: pip install 'facemesh-edge[train]'")


def drawn_eyes(count, seed):
    """Eyes of known opening, as features of drawn patches."""
    from runtime.expressions.eye_opening import eye_features

    generator = np.random.default_rng(seed)
    openings = generator.choice([0.03, 0.2, 0.3, 0.4], count) + generator.uniform(-0.02, 0.02, count)
    features = []
    for opening in openings:
        patch = np.full((24, 32), 170, np.uint8)
        cv2.ellipse(patch, (16, 12), (11, max(1, round(22 * opening))), 0, 0, 360, 60, -1)
        patch = np.clip(patch + generator.normal(0, 6, patch.shape), 0, 255).astype(np.uint8)
        features.append(eye_features(patch))
    return np.array(features), openings.astype(np.float32)


def test_closed_eyes_are_told_from_open_ones():
    from training.eyes.eye_network import fit_network, judge_network

    features, openings = drawn_eyes(600, 0)
    samples = EyeSamples(features, openings, np.arange(600) >= 450)
    arrays = fit_network(samples, seed=0)
    assert {name: array.shape for name, array in arrays.items()} == {
        "hidden": (768, 24),
        "hidden_bias": (24,),
        "out": (24,),
        "out_bias": (),
    }
    result = judge_network(arrays, samples)
    assert result["eyes"] == 150
    assert result["correlation"] > 0.95
    assert result["closed_found"] == result["closed"] > 20
    assert result["open_taken_for_closed"] < 0.1 * result["open"]


def test_opening_is_the_gap_over_the_width():
    points = np.zeros((68, 2))
    points[36], points[39], points[42], points[45] = (0, 0), (40, 0), (60, 0), (100, 0)
    points[37], points[38], points[41], points[40] = (10, -6), (30, -6), (10, 6), (30, 6)
    points[43], points[44], points[47], points[46] = (70, -1), (90, -1), (70, 1), (90, 1)
    right, left = marked_openings(points)
    assert (right, left) == pytest.approx((0.3, 0.05))
    assert left < BLINK_BELOW < right


@pytest.fixture
def labelled(tmp_path):
    """The shipped photograph, several times, with points where the model finds them."""
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    from runtime.inference.open_runner import open_runner
    from runtime.pipeline import FaceMeshPipeline

    whole = cv2.imread(str(ASSETS / "astronaut.jpg"))[30:220, 125:315]
    with open_runner() as runner:
        points = FaceMeshPipeline(runner, dense=False).from_boxes(whole, [[52, 46, 143, 141]])[0].landmarks[:, :2]
    count = 24
    names = np.array([f"{row}.png" for row in range(count)])
    with tarfile.open(tmp_path / "eyes.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for row, name in enumerate(names):
            data = cv2.imencode(".png", cv2.convertScaleAbs(whole, alpha=0.6 + 0.02 * row))[1].tobytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    np.savez(
        tmp_path / "eyes.npz",
        names=np.append(names, "elsewhere.png"),
        size=np.full(count + 1, 190, np.int32),
        hand68=np.repeat(points[None], count + 1, axis=0).astype(np.float32),
        visible68=np.full((count + 1, 68), 2, np.uint8),
        is_val=np.arange(count + 1) % 2 == 0,
    )
    return tmp_path / "eyes"


def test_the_command_writes_what_the_runtime_reads(labelled, tmp_path, capsys):
    output, report = tmp_path / "network.npz", tmp_path / "report.json"
    arguments = ["--hand", str(labelled), "--copies", "1", "-o", str(output), "--report", str(report)]
    assert main(["fit-eyes", *arguments]) == 0
    with np.load(output) as arrays:
        assert arrays["hidden"].shape == (768, 24)
        assert arrays["hidden"].dtype == np.float16
    result = json.loads(report.read_text())
    assert (result["training_eyes"], result["fitted"]["eyes"]) == (48, 24)
    assert "closed eyes found" in capsys.readouterr().out


def test_too_few_eyes(labelled, tmp_path, capsys):
    with np.load(labelled.with_suffix(".npz")) as arrays:
        changed = {**arrays, "visible68": np.zeros((25, 68), np.uint8)}
    np.savez(labelled.with_suffix(".npz"), **changed)
    assert main(["fit-eyes", "--hand", str(labelled), "-o", str(tmp_path / "n.npz")]) == 1
    assert "not 20 eyes for training and 20 for validation" in capsys.readouterr().err
    assert main(["fit-eyes", "--hand", str(labelled), "-o", str(tmp_path / "no" / "n.npz")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert not list(tmp_path.glob("n.npz*"))
