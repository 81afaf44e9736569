"""The peers compute the same as their authors' programs, and the table tells the measurements."""

from __future__ import annotations

import json
import math
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.accuracy.labelled_faces import load_faces
from benchmarks.peers.interface import StagedPeer
from benchmarks.peers.mediapipe_peer import MediaPipePeer
from benchmarks.peers.peers import _note, format_films, format_groups, summary
from benchmarks.peers.this_runtime import runtime_peer
from benchmarks.peers.whole_films import MediaPipeFilm, RuntimeFilm, measure_film
from benchmarks.records.measured_faces import Face
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_PICTURE, shipped_model
from runtime.pipeline import FaceMeshPipeline
from tests.training.toy import toy_face_model


@pytest.fixture(scope="module")
def oracle_face(toy_set):
    return Face(load_faces(toy_set.data, limit=1).images[0], toy_set.labels.box[0])


@pytest.mark.slow
def test_mb05_reproduces_the_reference_predictions(shared_data):
    """To a fraction of a pixel of its 120 px crop, of which the published decode lies one pixel further left.

    The reference came from other crops: the square one pixel larger, shrunk with an antialiased bicubic filter, then
    stored as JPEG. With such crops network and decode agree to 0.15 px, with the published crop to half a pixel.
    """
    torch = pytest.importorskip("torch", reason="needs torch to read the weights")
    from benchmarks.peers.mb05 import Mb05Steps, _to_onnx, cut, without_neck
    from export.checkpoints.checkpoint import load_checkpoint
    from export.checkpoints.whitening import read_whitening

    faces = load_faces(shared_data / "aflw2000_dev", limit=24)
    reference = np.load(shared_data / "reference" / "mb05_aflw2000_dev.npz")
    data = np.load(shared_data / "aflw2000_dev.npz")
    squares = dict(zip(data["names"].tolist(), data["roi_3ddfa"], strict=True))
    expected = dict(zip(reference["names"].tolist(), reference["pts68_gt_boxes"][..., :2], strict=True))
    weights = shared_data / "models" / "mb05_120x120.pth"
    network = load_checkpoint("mb05", weights)
    steps = Mb05Steps(_to_onnx(network), read_whitening(weights, None, 62), without_neck(faces.model), threads=1)
    assert steps.vertices == 38_365
    distances = []
    for row, name in enumerate(faces.labels.names.tolist()):
        published = steps.crop(Face(faces.images[row], faces.labels.box[row]))
        left, top, right, bottom = squares[name].tolist()
        photograph = cut(faces.images[row], [left - 1, top - 1, right, bottom]).transpose(2, 0, 1)[None]
        shrunk = torch.nn.functional.interpolate(
            torch.from_numpy(photograph).float(), (120, 120), mode="bicubic", antialias=True
        )
        reference_like = (shrunk.round().clamp(0, 255).numpy() - 127.5) / 128, squares[name].tolist()
        crop_px = (right - left) / 120
        landmarks = [steps.landmarks(steps.decode(steps.network(crop)))[:, :2] for crop in (published, reference_like)]
        distances.append(
            [np.linalg.norm(points + (crop_px, 0) - expected[name], axis=1).mean() / crop_px for points in landmarks]
        )
    with_published, with_reference_like = np.median(distances, axis=0)
    assert with_published < 0.55
    assert with_reference_like < 0.2


def test_mb05_refuses_other_weights(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch to read the weights")
    from benchmarks.peers.mb05 import mb05_peer

    torch.save({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    for name in ("other.pth", "text.pth", "missing.pth"):
        with pytest.raises(FaceMeshError, match=name):
            mb05_peer(tmp_path / name, toy_face_model(), threads=1)


def test_this_runtime_is_the_pipeline(write_oracle, oracle_face):
    engine = write_oracle("exact.onnx")
    peer = runtime_peer(engine, threads=1)
    start = time.perf_counter()
    seconds, landmarks = peer.run(oracle_face)
    elapsed = time.perf_counter() - start
    with open_runner(engine) as runner:
        mesh = FaceMeshPipeline(runner).from_boxes(oracle_face.image, oracle_face.box_xyxy[None])[0]
    np.testing.assert_array_equal(landmarks, mesh.landmarks)
    assert peer.vertices == len(mesh.vertices)
    assert peer.stages == ("crop", "network", "decode")
    assert min(seconds) > 0
    assert sum(seconds) < elapsed
    peer.close()


def test_prnet_steps_agree_with_this_runtime(write_oracle, oracle_face):
    """Up to the rounding of the crop's side to whole pixels, done by theirs alone."""
    pytest.importorskip("skimage", reason="needs scikit-image")
    from benchmarks.peers.prnet import prnet_peer

    engine = write_oracle("exact.onnx")
    landmarks = [open_peer(engine, 1).run(oracle_face)[1] for open_peer in (runtime_peer, prnet_peer)]
    np.testing.assert_allclose(*landmarks, atol=1.0)


def test_staged_peer_times_each_step_and_nothing_else(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.peers.interface.time.perf_counter", lambda: now[0])

    def slow(value):
        now[0] += 0.02
        return value + 1

    def landmarks(value):
        now[0] += 0.05
        return value

    peer = StagedPeer("slow", "", 1, (("first", lambda face: 1), ("second", slow)), landmarks)
    seconds, value = peer.run(None)
    assert value == 2
    assert seconds == [0, 0.02]
    assert now == [0.07]


FAKE_MEDIAPIPE = """
import time, types

__version__ = "fake"

class FaceMesh:
    def __init__(self, **options):
        assert options == {"static_image_mode": False, "max_num_faces": 1, "refine_landmarks": False}
    def process(self, image):
        assert image.shape == (4, 5, 3) and image[0, 0].tolist() == [30, 20, 10], "wants RGB"
        time.sleep(0.01)
        return types.SimpleNamespace(multi_face_landmarks=[1] if image[1, 0, 0] else None)

solutions = types.SimpleNamespace(face_mesh=types.SimpleNamespace(FaceMesh=FaceMesh))
"""


def test_mediapipe_worker(tmp_path, monkeypatch):
    (tmp_path / "mediapipe.py").write_text(FAKE_MEDIAPIPE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[0, 0] = 10, 20, 30
    with_face = picture.copy()
    with_face[1:] = 255
    peer = MediaPipePeer(sys.executable)
    assert peer.name == "MediaPipe Face Mesh fake"
    times, elapsed = [], []
    for image in (with_face, picture, with_face):
        start = time.perf_counter()
        times.append(peer.run(Face(image, np.zeros(4, np.float32)))[0][0])
        elapsed.append(time.perf_counter() - start)
    peer.close()
    assert math.isnan(times[1])
    for place in (0, 2):
        assert 0.01 <= times[place] < elapsed[place]


@pytest.mark.parametrize("python", ["no/such/python", "true", "false"])
def test_interpreter_without_mediapipe(python):
    with pytest.raises(FaceMeshError, match=r"mediapipe==0\.10\.21"):
        MediaPipePeer(python)


def test_summary_of_a_peer(toy_set):
    peer = StagedPeer("some", "as it is", 1000, (("crop", id), ("network", id)), id)
    seconds = np.array(
        [[0.001, 0.003], [0.002, 0.001], [math.nan, math.nan], [0.003, 0.002], [0.004, 0.004], [0.005, 0.005]]
    )
    faces = load_faces(toy_set.data)
    flat = np.array([2.0, 4.0, 6.0, 2.0, 4.0, 6.0])
    group = summary(peer, seconds, np.stack([flat, 2 * flat], axis=1), faces)
    assert group["faces"] == 5
    assert group["stages"]["crop"]["median_ms"] == pytest.approx(3)
    assert group["stages"]["total"]["median_ms"] == pytest.approx(5)  # of 4, 3, 5, 8, 10
    assert group["stages"]["total"]["vertices_per_ms"] == pytest.approx(200)
    assert group["nme"] == {"mean": 4.0, "balanced": 4.0, "mean_3d": 8.0}
    lines = format_groups([group]).splitlines()
    assert [line.split()[-1] for line in lines[1:]][-1] == "8.00"
    assert "1,000" in lines[-1]
    assert "total" in lines[-1]
    assert _note(group, 6) == "some: as it is; found 5 of 6 faces, the times are of those"


def test_whole_films(tmp_path, monkeypatch):
    """A film of the shipped photograph: every program goes through it, MediaPipe bound to one core."""
    fake = FAKE_MEDIAPIPE.replace("image.shape == (4, 5, 3) and image[0, 0].tolist() == [30, 20, 10]", "image.any()")
    cores = "import os\nassert len(os.sched_getaffinity(0)) >= 1\n"
    (tmp_path / "mediapipe.py").write_text(cores + fake)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    image = cv2.imread(str(SHIPPED_PICTURE))
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, image.shape[1::-1])
    for _ in range(12):
        writer.write(image)
    writer.release()
    openers = [partial(RuntimeFilm, shipped_model(), 1, tracked) for tracked in (False, True)]
    films = measure_film(path, [*openers, partial(MediaPipeFilm, sys.executable, 1)])
    assert [line["frames"] for line in films] == [12] * 3
    assert [line["found"] for line in films] == [12] * 3
    detected, tracked, other = films
    assert detected["name"].endswith("detected in every frame")
    assert tracked["median_ms"] > 0
    assert detected["p90_ms"] >= detected["median_ms"] > 0
    assert other["name"] == "MediaPipe Face Mesh fake, tracked"
    assert other["median_ms"] >= 10
    table = format_films(films).splitlines()
    assert len(table) == 4
    assert table[3].startswith("film.avi  MediaPipe Face Mesh fake, tracked")


def test_command(toy_set, write_oracle, tmp_path, capsys, monkeypatch):
    """The command measures every peer that it can, and names the others."""
    monkeypatch.setitem(sys.modules, "benchmarks.peers.prnet", None)  # as if scikit-image were not installed
    monkeypatch.setitem(sys.modules, "benchmarks.peers.mb05", None)
    engine, path = str(write_oracle("exact.onnx")), tmp_path / "p.json"
    assert main(["peers", "--data", str(toy_set.data), "--engine", engine, "--faces", "3", "--json", str(path)]) == 0
    document = json.loads(path.read_text())
    assert [group["name"] for group in document["peers"]] == ["this runtime, fp32"]
    assert document["peers"][0]["nme"]["mean"] < 0.6
    assert [(entry["file"], len(entry["sha256"])) for entry in document["engines"]] == [("exact.onnx", 64)]
    assert len(document["absent"]) == 3
    assert any("skimage" in line or "peers.prnet" in line for line in document["absent"])
    output = capsys.readouterr().out
    assert "3 faces of toy" in output
    assert "MediaPipe Face Mesh: not measured, give --mediapipe-python" in output


def test_shipped_model_in_fp32_and_as_the_runtime_chooses(toy_set, tmp_path, monkeypatch):
    for name in ("prnet", "mb05"):
        monkeypatch.setitem(sys.modules, f"benchmarks.peers.{name}", None)
    for chosen, names in ((True, ["fp32", "int8"]), (False, ["fp32"])):
        monkeypatch.setattr("runtime.models.shipped.has_byte_products", lambda chosen=chosen: chosen)
        path = tmp_path / "p.json"
        assert main(["peers", "--data", str(toy_set.data), "--faces", "2", "--threads", "1", "--json", str(path)]) == 0
        document = json.loads(path.read_text())
        assert [group["name"] for group in document["peers"]] == [f"this runtime, {name}" for name in names]
        assert len(document["engines"]) == len(names)


def test_libraries_get_as_many_threads_and_then_what_they_had():
    pytest.importorskip("threadpoolctl", reason="needs threadpoolctl")
    from threadpoolctl import threadpool_info

    from benchmarks.peers.thread_limit import limited_threads

    def counts():
        return [cv2.getNumThreads(), *(entry["num_threads"] for entry in threadpool_info())]

    before = counts()
    with limited_threads(1):
        assert set(counts()) == {1}
    assert counts() == before
    assert len(before) > 1


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--json", "nowhere/p.json"], "nowhere"),
        (["--engine", "nowhere.onnx"], "nowhere.onnx"),
        (["--mb05", "nowhere.pth"], "nowhere.pth"),
        (["--mediapipe-python", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(toy_set, write_oracle, capsys, options, what):
    if "--mb05" in options:
        pytest.importorskip("torch", reason="3DDFA_V2 needs torch")
    assert (
        main(
            [
                "peers",
                "--data",
                str(toy_set.data),
                "--engine",
                str(write_oracle("exact.onnx")),
                "--faces",
                "1",
                *options,
            ]
        )
        == 1
    )
    error = capsys.readouterr().err
    assert what in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("options", [["--faces", "0"], ["--threads", "two"]])
def test_usage_errors(toy_set, options):
    with pytest.raises(SystemExit) as exit_code:
        main(["peers", "--data", str(toy_set.data), *options])
    assert exit_code.value.code == 2


def test_the_model_without_neck_is_a_part_of_the_whole(monkeypatch):
    pytest.importorskip("torch", reason="3DDFA_V2 needs torch")
    from benchmarks.peers import mb05

    model = toy_face_model()
    assert mb05.without_neck(model) is model
    monkeypatch.setattr(mb05, "NO_NECK_VERTICES", 200)
    part = mb05.without_neck(model)
    assert len(part.mean) == len(part.uv) == len(part.symmetry) == 200
    coefficients = np.array([1.0, -2, 0.5])
    whole = model.vertices(coefficients)
    np.testing.assert_array_equal(part.vertices(coefficients)[part.keypoints68], whole[model.keypoints68])
    places = {tuple(point) for point in whole.tolist()}
    assert all(tuple(point) in places for point in part.vertices(coefficients).tolist())
    assert 0 < len(part.triangles) < len(model.triangles)
    a, b = (part.mean[part.triangles[:, k]] for k in range(2))
    assert np.linalg.norm(a - b, axis=1).max() < 0.2  # neighbours stay neighbours
    np.testing.assert_array_equal(part.symmetry[part.symmetry], np.arange(200))


def test_published_steps_are_for_the_published_split_alone(toy_set, tmp_path, capsys):
    pytest.importorskip("onnx", reason="needs onnx to make a model")
    from tests.standins.coefficient_network import write_toy_model

    engine, record = write_toy_model(tmp_path), tmp_path / "p.json"
    arguments = ["--data", str(toy_set.data), "--engine", str(engine), "--faces", "2", "--json", str(record)]
    assert main(["peers", *arguments]) == 0
    names = [group["name"] for group in json.loads(record.read_text())["peers"]]
    assert names == ["this runtime, fp32", "this runtime, fp32, landmarks alone"]
    wanted = "3DDFA_V2 mb05: not measured, its steps are for 12 + 40 + 10 from 120 px, this is 12 pose + 2 shape + 1"
    assert wanted in capsys.readouterr().out


def test_several_faces_of_a_picture(toy_set, tmp_path, capsys):
    """They are those of pictures of their own; an odd one is filled up with the first face."""
    pytest.importorskip("onnx", reason="needs onnx to make a model")
    from benchmarks.peers.peers import measure_peers
    from runtime.families.model_topology import FaceModelTopology
    from tests.standins.coefficient_network import write_toy_model

    faces = load_faces(toy_set.data, limit=3)
    engine, errors = write_toy_model(tmp_path), []
    for count in (1, 2):
        peer = runtime_peer(engine, 1, FaceModelTopology(faces.model), dense=False, faces=count)
        ((seconds, nme),) = measure_peers([peer], faces, per_picture=count)
        assert seconds.shape == (3, 3)
        assert (seconds > 0).all()
        errors.append(nme[:, 0])
        peer.close()
    np.testing.assert_allclose(*errors, rtol=0.1)  # beyond a picture's border lies its neighbour instead of black
    arguments = ["peers", "--data", str(toy_set.data), "--faces", "1", "--faces-per-picture", "2"]
    assert main(arguments) == 1
    assert "--faces-per-picture: for a network of coefficients alone" in capsys.readouterr().err
    channel = write_toy_model(tmp_path, landmark_channel=True, name="channel")
    assert main([*arguments, "--engine", str(channel)]) == 1
    assert "takes landmarks, of one face at a time; leave it out" in capsys.readouterr().err


def test_published_steps_do_the_faces_of_a_picture_one_by_one():
    pytest.importorskip("torch", reason="3DDFA_V2 needs torch")
    from benchmarks.peers.mb05 import staged

    class Steps:
        vertices = 68

        def crop(self, face):
            raise AssertionError("of a single face")

        def crop_box(self, image, box):
            return [f"crop {box}"]

        def network(self, crop):
            return [*crop, "network"]

        def decode(self, output):
            return [*output, "decode"]

        def landmarks(self, points):
            return points

    peer = staged(Steps(), "steps", faces=2)
    assert [name for name, _ in peer.steps] == ["crop", "network", "crop", "network", "decode"]
    assert peer.stages == ("crop", "network", "decode")
    seconds, found = peer.run(Face(None, ["left", "right"]))
    assert len(seconds) == 3
    assert found.tolist() == [[f"crop {side}", "network", "decode"] for side in ("left", "right")]


def test_a_network_with_a_landmark_channel_runs_behind_another(toy_set, write_oracle, oracle_face, tmp_path, capsys):
    """The landmarks of the first network are drawn: the result is the pipeline's, and its time is a stage."""
    pytest.importorskip("onnx", reason="needs onnx to make a model")
    from tests.standins.coefficient_network import write_toy_model

    first, engine = write_oracle("exact.onnx"), write_toy_model(tmp_path, landmark_channel=True)
    peer = runtime_peer(engine, threads=1, landmarks_from=first)
    assert peer.stages == ("first network", "crop", "network", "decode")
    seconds, landmarks = peer.run(oracle_face)
    assert len(seconds) == 4
    with open_runner(engine, landmarks_from=first) as runner:
        mesh = FaceMeshPipeline(runner).from_boxes(oracle_face.image, oracle_face.box_xyxy[None])[0]
    # The pipeline derives the first network's crop from the other's, which is a little off.
    np.testing.assert_allclose(landmarks, mesh.landmarks, atol=0.5)
    peer.close()
    data = ["--data", str(toy_set.data), "--faces", "1"]
    assert main(["peers", *data, "--engine", str(engine)]) == 1
    assert "give a network that does by --landmarks-from" in capsys.readouterr().err
    assert main(["peers", *data, "--engine", str(first), "--landmarks-from", str(first)]) == 1
    assert "takes no landmarks beside the picture; leave --landmarks-from out" in capsys.readouterr().err


@pytest.mark.slow
def test_both_run_round_the_same_network(shared_data, tmp_path):
    """Their landmarks differ by the crop's pixel conventions: by less than a pixel of the 120 px crop."""
    pytest.importorskip("torch", reason="needs torch to read the weights")
    from export.__main__ import main as export

    engine, record = tmp_path / "mb05.onnx", tmp_path / "p.json"
    weights, face_model = shared_data / "models" / "mb05_120x120.pth", shared_data / "face_model.npz"
    arguments = ["--arch", "mb05", "--weights", str(weights), "--face-model", str(face_model), "-o", str(engine)]
    assert export(["onnx", *arguments]) == 0
    data = ["--data", str(shared_data / "aflw2000_dev"), "--faces", "20", "--threads", "1", "--json", str(record)]
    assert main(["peers", *data, "--engine", str(engine)]) == 0
    groups = {group["name"]: group for group in json.loads(record.read_text())["peers"]}
    names = ("this runtime, fp32", "3DDFA_V2 mb05")
    assert list(groups) == [*names, *(f"{name}, landmarks alone" for name in names)]
    assert [group["vertices"] for group in groups.values()] == [38_365, 38_365, 68, 68]
    errors = [group["nme"]["mean"] for group in groups.values()]
    assert errors[0] == pytest.approx(errors[2], abs=1e-3)
    assert errors[1] == pytest.approx(errors[3], abs=1e-3)
    assert errors[0] == pytest.approx(errors[1], abs=0.3)
