"""A network that is given landmarks: where they come from, what is drawn, on the CPU and on the stand-in GPU."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, draw_landmarks
from runtime.inference.guided_runner import GuidedMesher, GuidedRunner
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from tests.standins.coefficient_network import write_toy_model
from tests.standins.fake_engine import write_engine

BOXES = np.array([[20.0, 20, 60, 60], [5, 10, 50, 48], [70, 30, 130, 90]])
ALLOCATIONS = ("stream", "event", "host_buffer", "device_buffer", "capture")


@pytest.fixture
def picture():
    return np.random.default_rng(1).integers(0, 256, (140, 160, 3), np.uint8)


@pytest.fixture
def models(tmp_path):
    """The network with a landmark channel and the first one, whose own landmarks depend on the picture."""
    return write_toy_model(tmp_path, landmark_channel=True, name="guided"), write_toy_model(tmp_path, name="first")


def by_hand(models, picture, boxes=BOXES):
    """Landmarks of the first network, and meshes of the second one for them, step by step."""
    found = []
    with open_runner(models[1]) as first, open_runner(models[0]) as second:
        family = open_family(first.spec)
        matrices = [family.crop_matrix(box) for box in boxes]  # both networks crop alike
        mesher = first.mesher(family, dense=False)
        mesher.submit(picture, matrices)
        decode = open_family(second.spec).decoder()
        for face, matrix in zip(mesher.collect(), matrices, strict=True):
            crop_into(picture, matrix, second.spec.input, second.input[0])
            draw_landmarks(face.landmarks, matrix, second.input[0])
            found.append((face.landmarks, *decode(second.infer(1)[0], matrix)))
    return found


def test_the_first_network_finds_the_landmarks(models, picture):
    expected = by_hand(models, picture)
    with open_runner(models[0], landmarks_from=models[1], max_batch=2) as runner:
        assert isinstance(runner, GuidedRunner)
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        matrices = [family.crop_matrix(box) for box in BOXES]
        mesher.submit(picture, matrices)
        for found in (mesher.collect(), mesher.again(picture, matrices)):
            for face, (_, vertices, landmarks) in zip(found, expected, strict=True):
                np.testing.assert_allclose(face.vertices, vertices, atol=1e-3)
                np.testing.assert_allclose(face.landmarks, landmarks, atol=1e-3)


def test_known_landmarks_spare_the_first_network(models, picture):
    """As a track knows them from its last frame; a face without is found by the first network, or all on request."""
    expected = by_hand(models, picture)
    with open_runner(models[0], landmarks_from=models[1]) as runner:
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        mesher.submit(picture, [family.crop_matrix(box) for box in BOXES], [np.full((68, 3), 7, np.float32)] * 3)
        for face, (_, vertices, _) in zip(mesher.collect(), expected, strict=True):
            np.testing.assert_allclose(face.vertices, vertices, atol=1e-3)
    with open_runner(models[0], landmarks_from=models[1], reuse_landmarks=True) as runner:
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        matrices = [family.crop_matrix(box) for box in BOXES]
        asked = []
        submit = mesher._first.submit
        mesher._first.submit = lambda image, wanted: asked.append(len(wanted)) or submit(image, wanted)
        for known in ([points for points, *_ in expected], [expected[0][0], None, expected[2][0]]):
            mesher.submit(picture, matrices, known)
            for face, (_, vertices, _) in zip(mesher.collect(), expected, strict=True):
                np.testing.assert_allclose(face.vertices, vertices, atol=1e-3)
        assert asked == [1]
        moved = [points + np.float32(9) for points, *_ in expected]
        mesher.submit(picture, matrices, moved)
        assert np.abs(mesher.collect()[0].vertices - expected[0][1]).max() > 0.01


def test_crops_of_the_first_network_show_the_same_face(models, write_model, tmp_path, picture):
    """A position map's crop measures the box in another way; for the usual aspect it is that of the box itself."""
    edge = write_model(tmp_path / "edge.onnx")
    with open_runner(models[0], landmarks_from=edge) as runner:
        family, first = open_family(runner.spec), open_family(runner._first.spec)
        mesher = runner.mesher(family)
        assert isinstance(mesher, GuidedMesher)
        box = np.array([30.0, 40.0, 30 + 46.5, 40 + 50])
        found = mesher._change @ np.vstack([family.crop_matrix(box), (0, 0, 1)])
        np.testing.assert_allclose(found, first.crop_matrix(box), atol=1e-9)
        for x in np.linspace(0, 40, 50):  # whatever the rounding, a crop without rotation stays one
            matrix = mesher._first_matrix(family.crop_matrix(box + x))
            assert matrix[0, 1] == matrix[1, 0] == 0
            assert matrix[0, 0] == matrix[1, 1]
        mesher.submit(picture, [family.crop_matrix(box)])
        assert mesher.collect()[0].landmarks.shape == (68, 3)


def test_missing_and_superfluous_sources(models, picture):
    with open_runner(models[0]) as runner:
        with pytest.raises(FaceMeshError, match="takes landmarks beside the picture, and nothing finds them"):
            FaceMeshPipeline(runner)
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        matrices = [family.crop_matrix(box) for box in BOXES]
        for known in ((), [None, None, None], [np.zeros((68, 3), np.float32)]):
            with pytest.raises(FaceMeshError, match="nothing finds them"):
                mesher.submit(picture, matrices, known)
    with pytest.raises(FaceMeshError, match="takes no landmarks beside the picture"):
        open_runner(models[1], landmarks_from=models[1])
    with pytest.raises(FaceMeshError, match="takes landmarks itself"):
        open_runner(models[0], landmarks_from=models[0])


def test_threads_share_a_runner(models, picture):
    """Calls of two pipelines take turns, and each has its own faces."""
    with open_runner(models[0], landmarks_from=models[1]) as runner:
        pipelines = [FaceMeshPipeline(runner) for _ in range(2)]
        jobs = [(pipelines[0], picture), (pipelines[1], picture[::-1].copy())]
        expected = [pipeline.from_boxes(image, BOXES)[0].landmarks for pipeline, image in jobs]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda job: [job[0].from_boxes(job[1], BOXES)[0].landmarks for _ in range(10)], jobs))
        for landmarks, wanted in zip(found, expected, strict=True):
            for one in landmarks:
                np.testing.assert_array_equal(one, wanted)


def test_pipeline_with_a_second_look(models, picture):
    with open_runner(models[0], landmarks_from=models[1]) as runner:
        faces = FaceMeshPipeline(runner).from_boxes(picture, BOXES)
        assert len(faces) == 3
        assert all(np.isfinite(face.vertices).all() for face in faces)


@pytest.mark.parametrize("words", [{}, {"input_type": "HALF", "output_type": "HALF"}])
@pytest.mark.parametrize("count", [1, 3])
def test_the_device_draws_what_the_cpu_draws(gpu_machine, models, picture, words, count):
    """Upload, crop with its channel, network and decoder are one graph: no allocation, one wait."""
    expected = by_hand(models, picture, BOXES[:count])
    machine = gpu_machine(integrated=False)
    engine = write_engine(models[0].with_suffix(".engine"), models[0], **words)
    with open_runner(engine, max_batch=4) as runner, warnings.catch_warnings():
        warnings.simplefilter("error")
        family = open_family(runner.spec)
        mesher = runner.mesher(family)
        matrices = [family.crop_matrix(box) for box in BOXES[:count]]
        known = [points for points, *_ in expected]
        for turn in range(24):
            if turn == 4:
                machine.cuda.log.clear()
            mesher.submit(picture, matrices, known)
            for face, (_, vertices, _) in zip(mesher.collect(), expected, strict=True):
                np.testing.assert_allclose(face.vertices, vertices, atol=0.3 if words else 0.02)
        assert not machine.cuda.calls(*ALLOCATIONS, "close", "crop", "decode")  # all of it is in the graph
        assert len(machine.cuda.calls("synchronize")) == len(machine.cuda.calls("launch")) == 20
        with pytest.raises(FaceMeshError, match="nothing finds them"):
            mesher.submit(picture, matrices)


def test_an_engine_after_a_network_on_the_cpu(gpu_machine, models, picture):
    expected = by_hand(models, picture)
    gpu_machine(integrated=True)
    engine = write_engine(models[0].with_suffix(".engine"), models[0])
    with open_runner(engine, landmarks_from=models[1]) as runner:
        faces = FaceMeshPipeline(runner)
        family = faces.family
        mesher = faces._mesher
        matrices = [family.crop_matrix(box) for box in BOXES]
        for _ in range(3):
            mesher.submit(picture, matrices)
            mesher.submit(picture[::-1].copy(), matrices)  # two in flight
            for face, (_, vertices, _) in zip(mesher.collect(), expected, strict=True):
                np.testing.assert_allclose(face.vertices, vertices, atol=0.05)
            mesher.collect()
