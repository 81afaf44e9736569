"""Films and scenes made from photographs, and what is measured on them."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.accuracy.labelled_faces import load_faces
from benchmarks.films import followers, made_films, scenes, tracking
from benchmarks.films.jitter import FIGURES, equal_lag, format_rows, score
from benchmarks.films.made_films import FILMS, TrueFace
from benchmarks.films.measures import closing_seen, jitter, lag_and_rest, openings
from benchmarks.films.scenes import SETTLE, Scene, close_eyes
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.sources.photos import read_photo
from runtime.tracking.options import OneEuro
from runtime.types import FaceMesh, Pose
from tests.training.toy import toy_face_model, toy_labels, write_toy_set

FACES = 12


@pytest.fixture(scope="module")
def stem(tmp_path_factory, portrait, topology):
    """Stem of a set: the bundled photograph twelve times, labelled with the mean face in the found box."""
    image = read_photo(portrait)
    (box,) = YuNetDetector(max_faces=1)(image).boxes_xyxy
    mean = topology.canonical_vertices[topology.landmark_vertices].astype(np.float64)
    low, high = mean[:, :2].min(axis=0), mean[:, :2].max(axis=0)
    scale = (box[2:] - box[:2]).mean() / (high - low).mean()
    mean[:, :2] = scale * (mean[:, :2] - (low + high) / 2) + (box[:2] + box[2:]) / 2
    points = np.repeat(mean[None], FACES, axis=0).astype(np.float32)
    labels = dataclasses.replace(
        toy_labels(toy_face_model(), FACES),
        size=np.full(FACES, 512, np.int32),
        pts68=points,
        box=np.concatenate([points[..., :2].min(axis=1), points[..., :2].max(axis=1)], axis=1),
        yaw_deg=np.zeros(FACES, np.float32),
    )
    return write_toy_set(tmp_path_factory.mktemp("portraits"), labels, [image] * FACES, "portraits")


@pytest.fixture(scope="module")
def faces(stem):
    return load_faces(stem)


# Made films


@pytest.mark.parametrize("name", [name for name in FILMS if name != "turn"])
def test_films_are_seeded_and_their_truth_moves_with_the_picture(faces, name):
    frames = list(FILMS[name](faces, np.random.default_rng(1), 6))
    assert [frame.index for frame, _ in frames] == list(range(6))
    assert all(frame.image.shape == (720, 1280, 3) for frame, _ in frames)
    (frame, truth), (_, later) = frames[0], frames[5]
    same, _ = next(FILMS[name](faces, np.random.default_rng(1), 6))
    np.testing.assert_array_equal(frame.image, same.image)
    (found,) = YuNetDetector(max_faces=1)(frame.image).boxes_xyxy
    assert max(tracking.box_iou(found, np.array([face.box_xyxy for face in truth]))) > 0.6
    if name not in ("cut", "blur", "zoom"):
        assert np.abs(truth[0].points - later[0].points).max() > 2
    assert [face.person for face in truth] == list(range(len(truth)))


def test_whoever_stands_behind_others_is_not_visible(faces):
    seen = [[face.visible for face in truth] for _, truth in FILMS["crossing"](faces, np.random.default_rng(0), 30)]
    assert all(seen[0])
    assert not all(map(all, seen))


@pytest.mark.slow
def test_the_hidden_person_of_an_occlusion_is_not_visible(faces):
    seen = [[face.visible for face in truth] for _, truth in FILMS["occlusion"](faces, np.random.default_rng(0), 60)]
    assert [row for row in seen if not all(row)] == [[False, True]] * 13


# Measures


def signals(count=150, period=60):
    phase = np.arange(count) / period
    return 1 - 4 * np.abs((phase + 0.25) % 1 - 0.5)


@pytest.mark.parametrize("lag", [0.0, 0.33, 1.0, 2.5])
def test_lag_is_found_whatever_scale_and_noise(lag):
    generator = np.random.default_rng(0)
    times = np.arange(150.0)
    delayed = np.interp(times - lag, times, signals())
    points = 300 + delayed[:, None, None] * generator.normal(0, 40, (1, 30, 2))
    noisy = points + generator.normal(0, 0.5, points.shape)
    found, rest = lag_and_rest(noisy, signals()[:, None], 100.0)
    assert found == pytest.approx(lag, abs=0.06)
    assert rest == pytest.approx(0.5 * np.sqrt(2), rel=0.1)


def test_jitter_is_the_rms_distance():
    points = 100 + np.random.default_rng(0).normal(0, 0.3, (400, 68, 2))
    points[:SETTLE] += 50  # what is before does not count
    assert jitter(points, 200.0) == pytest.approx(100 * 0.3 * np.sqrt(2) / 200, rel=0.03)


def test_closing_of_a_blink():
    closing = np.zeros(120)
    for start in (40, 80):
        closing[start : start + 4] = 0.5, 1.0, 0.5, 0.1
    assert closing_seen(0.3 * (1 - 0.8 * closing), closing) == pytest.approx(80)
    assert closing_seen(np.full(120, 0.3), closing) == pytest.approx(0)


def test_opening_of_eyes():
    points = np.zeros((3, 68, 2))
    points[:, 39, 0] = points[:, 45, 0] = 10
    points[:, [37, 38, 43, 44], 1] = np.array([3, 2, 1])[:, None]
    np.testing.assert_allclose(openings(points, followers.OUR_EYES), [0.3, 0.2, 0.1], atol=0.02)


def test_averaging_is_a_frame_late():
    points = np.arange(10.0)[:, None, None] * np.ones((1, 4, 2))
    np.testing.assert_allclose(followers.averaged(points)[2:, 0, 0], np.arange(1.0, 9.0))


def test_filter_of_the_curve_that_passes_all():
    points = np.random.default_rng(0).normal(0, 5, (20, 68, 3)).astype(np.float32)
    np.testing.assert_allclose(followers.filtered(points, followers.PASSING, 100.0), points, atol=1e-3)
    assert not np.allclose(followers.filtered(points, OneEuro(0.5, 5.0, 2.0), 100.0)[5], points[5], atol=0.5)


def test_closed_eyes_change_the_picture_between_brow_and_lid_alone(faces):
    photo = made_films.photo_of(faces, 0)
    shut = close_eyes(photo.image, photo.points, 1.0)
    np.testing.assert_array_equal(close_eyes(photo.image, photo.points, 0.0), photo.image)
    rows, columns = np.nonzero((shut != photo.image).any(axis=2))
    eyes = photo.points[17:48]
    assert eyes[:, 1].min() - 2 < rows.min() < rows.max() < photo.points[36:48, 1].max() + 2
    assert photo.points[36, 0] - 2 < columns.min() < columns.max() < photo.points[45, 0] + 2


def test_score_of_points_that_follow_the_truth_a_frame_late():
    generator = np.random.default_rng(0)
    base = generator.normal(300, 40, (68, 2))
    still = np.repeat(base[None], scenes.COUNT, axis=0)
    phase = signals(scenes.COUNT)
    late = np.interp(np.arange(scenes.COUNT) - 1.0, np.arange(scenes.COUNT), phase)
    moving = still + 50 * late[:, None, None]
    closing = np.zeros(scenes.COUNT)
    closing[[40, 80]] = 1.0
    made = [
        Scene(name, [], signal.reshape(scenes.COUNT, -1), np.zeros(4), 200.0)
        for name, signal in (("still", phase * 0), ("slide", phase), ("turn", phase), ("blink", closing))
    ]
    figures = score([still, moving, moving, still], made)
    assert figures["jitter"] == pytest.approx(0, abs=1e-9)
    assert figures["lag"] == figures["slide_lag"] == pytest.approx(1.0, abs=0.03)
    assert figures["closing"] == pytest.approx(0, abs=1e-6)


def test_equal_lag_takes_the_calmest_setting_that_is_as_quick():
    curves = [{"lag": 0.1, "jitter": 0.09}, {"lag": 0.5, "jitter": 0.03}, {"lag": 1.5, "jitter": 0.01}]
    table = [{"method": name, "lag": lag, "jitter": 0.2} for name, lag in (("tracked", 0), ("3DDFA_V2", 1.0))]
    assert equal_lag(table, curves) == [{"method": "3DDFA_V2", "lag": 1.0, "jitter": 0.2, "our_jitter": 0.03}]
    table[1]["lag"] = 0.0
    assert np.isnan(equal_lag(table, curves)[0]["our_jitter"])
    table[0]["method"] = "tracked, crop smoothed"  # with the filter of the points off
    assert equal_lag(table, curves)[0]["our_jitter"] == 0.2


def test_chart_and_table(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from benchmarks.films.jitter_chart import draw_jitter

    row = dict.fromkeys(FIGURES, 0.5)
    curves = [{**vars(settings), **row} for settings in followers.settings_of_curve()]
    blink = {"closing": [0.0] * scenes.COUNT, "tracked": [0.3] * scenes.COUNT}
    draw_jitter({"methods": [{"method": "tracked", **row}], "curves": curves, "blink": blink}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert format_rows([{"method": "tracked", **row}]).splitlines()[1].split() == ["tracked", *["0.50"] * 7]


# Peers

FAKE_MEDIAPIPE = """
import types
__version__ = "fake"
class FaceMesh:
    films = 0
    def __init__(self, **keywords):
        FaceMesh.films += 1
        self.frames = 0
    def process(self, image):
        self.frames += 1
        place = types.SimpleNamespace(x=self.frames / 10, y=FaceMesh.films / 10)
        found = [types.SimpleNamespace(landmark=[place] * 468)] if image[0, 0, 2] else None
        return types.SimpleNamespace(multi_face_landmarks=found)
    def close(self):
        pass
solutions = types.SimpleNamespace(face_mesh=types.SimpleNamespace(FaceMesh=FaceMesh))
"""


def test_mediapipes_points_of_two_films(tmp_path, monkeypatch):
    (tmp_path / "mediapipe.py").write_text(FAKE_MEDIAPIPE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shown, empty = np.full((20, 30, 3), 9, np.uint8), np.zeros((20, 30, 3), np.uint8)
    films = followers.MediaPipeFilms(sys.executable)
    for number in (2, 3):
        scene = Scene("x", [shown, empty, shown], np.zeros((3, 1)), np.zeros(4), 10.0)
        points = films.points(scene)
        assert points.shape == (3, 468, 2)
        np.testing.assert_allclose(points[:, 0, 0], [3, 3, 9], rtol=1e-5)  # the second frame keeps the first one's
        np.testing.assert_allclose(points[:, 0, 1], 2 * number, rtol=1e-5)
    with pytest.raises(FaceMeshError, match="no face found in its first frame"):
        films.points(Scene("x", [empty], np.zeros((1, 1)), np.zeros(4), 10.0))
    films.close()


@pytest.mark.parametrize("frames", [1, 3])
def test_mediapipe_that_dies(tmp_path, monkeypatch, frames):
    """In the last frame; its points are not those of the frame before."""
    step = "self.frames += 1"
    dying = FAKE_MEDIAPIPE.replace(step, f"{step}\n        self.frames < {frames} or os._exit(3)")
    (tmp_path / "mediapipe.py").write_text("import os\n" + dying)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    films = followers.MediaPipeFilms(sys.executable)
    shown = np.full((20, 30, 3), 9, np.uint8)
    with pytest.raises(FaceMeshError, match="ended with code 3"):
        films.points(Scene("x", [shown] * frames, np.zeros((frames, 1)), np.zeros(4), 10.0))
    films.close()


@pytest.mark.parametrize("python", ["no/such/python", "false"])
def test_interpreter_without_mediapipe(python):
    with pytest.raises(FaceMeshError, match=r"mediapipe==0\.10\.21"):
        followers.MediaPipeFilms(python)


# Commands


def face(box, number=1):
    x1, y1, x2, y2 = box
    landmarks = np.zeros((68, 3), np.float32)
    landmarks[:, 0], landmarks[:, 1] = np.linspace(x1, x2, 68), np.linspace(y1, y2, 68)
    return FaceMesh(landmarks[:0], landmarks, np.array(box, np.float32), 0.9, Pose(0, 0, 0), 0.9, number)


def test_pairs_are_one_to_one():
    truth = [TrueFace(0, face((0, 0, 100, 100)).landmarks[:, :2], True)]
    truth.append(TrueFace(1, face((30, 0, 130, 100)).landmarks[:, :2], True))
    found = [face((5, 0, 105, 100), 7), face((32, 0, 132, 100), 8), face((500, 0, 600, 100), 9)]
    assert {row: mesh.track_id for row, mesh in tracking.pair_up(truth, found).items()} == {0: 7, 1: 8}
    assert {row: mesh.track_id for row, mesh in tracking.pair_up(truth, found[:1]).items()} == {0: 7}
    assert tracking.pair_up(truth, []) == {}


def test_tracking_command(stem, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "SECONDS", 0.4)
    record = tmp_path / "record.json"
    assert main(["tracking", "--data", str(stem), "--seeds", "1", "--only", "pan,cut", "--json", str(record)]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line] == ["film", "pan", "cut"]
    table = json.loads(record.read_text())["table"]
    assert [(row["frames"], row["visible"], row["missed"], row["changes"]) for row in table] == [(10, 10, 0, 0)] * 2
    assert table[0]["detector"] == 10
    assert abs(table[0]["nme"] - table[0]["nme_detected"]) < 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tracking", "--only", "zoom,flight"], "no kind 'flight', there are zoom,pan,"),
        (["tracking", "--seeds", "0"], "--seeds"),
        (["jitter", "--seed", "-1"], "--seed"),
        (["jitter", "--faces", "x"], "--faces"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([arguments[0], "--data", "x", *arguments[1:]])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_jitter_command(stem, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    # The toy labels have no head to turn.
    monkeypatch.setattr(scenes, "_turn", lambda faces, row: scenes._slide(made_films.photo_of(faces, row)))
    monkeypatch.setattr(scenes, "COUNT", 75)
    assert main(["jitter", "--data", str(stem), "--faces", "1", "-o", str(tmp_path / "record")]) == 0
    document = json.loads((tmp_path / "record.json").read_text())
    rows = {row["method"]: row for row in document["methods"]}
    assert rows["tracked, smoothed"]["jitter"] < 0.6 * rows["tracked"]["jitter"]
    assert rows["tracked, smoothed"]["lag"] < 1.0
    assert "3DDFA_V2: not measured, give --mb05" in capsys.readouterr().out
    assert (tmp_path / "record.png").is_file()


def test_the_command_prints_equal_lags(stem, tmp_path, capsys, monkeypatch):
    row = {"method": "3DDFA_V2", **dict.fromkeys(FIGURES, 0.25)}
    equal = [{"method": "3DDFA_V2", "lag": 1.0, "jitter": 0.2, "our_jitter": 0.03}]
    result = {"methods": [row], "curves": [], "equal_lag": equal, "blink": {}, "absent": ["MediaPipe: not measured"]}
    monkeypatch.setattr("benchmarks.films.jitter.measure_jitter", lambda *_: result)
    assert main(["jitter", "--data", str(stem)]) == 0
    out = capsys.readouterr().out
    assert "at the lag of 3DDFA_V2, 1.00 frames: our jitter 0.03 %, theirs 0.20 %\nMediaPipe: not measured" in out
