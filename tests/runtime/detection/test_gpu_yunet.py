"""The detector in an engine, held against the CPU's: faces, order of work, frames that it shares, faults.

All with stand-ins.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime, which the stand-in runs engines with")

from runtime.detection.fixed_size import FixedSizeYuNet
from runtime.detection.gpu_yunet import MOST_ROWS
from runtime.detection.open_detector import open_detector
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED_MODEL
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.photos import read_photo
from runtime.tracking.options import Tracking
from runtime.types import Frame
from tests.standins.fake_cuda import CALLS
from tests.standins.fake_engine import write_engine

ALLOCATIONS = ("stream", "event", "host_buffer", "device_buffer", "capture")
STEPS = ["upload", "crop", "enqueue", "face_rows", "download"]


@pytest.fixture
def opened():
    """Whatever is entered here is closed in the end, the last first."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture(scope="module")
def cpu():
    return YuNetDetector()


@pytest.fixture(scope="module")
def wide(portrait):
    """A frame of 720p, in which the portrait is one of two faces."""
    photo = read_photo(portrait)
    frame = np.full((720, 1280, 3), 90, np.uint8)
    frame[100:612, 60:572] = photo
    frame[300:556, 800:1056] = cv2.resize(photo, (256, 256), interpolation=cv2.INTER_AREA)
    return frame


def assert_same_faces(found, expected, most_px):
    assert len(found) == len(expected)
    assert (found.rolls_deg is None) == (expected.rolls_deg is None)
    for box, score in zip(expected.boxes_xyxy, expected.scores, strict=True):
        distances = np.abs(found.boxes_xyxy - box).max(axis=1)
        nearest = distances.argmin()
        assert distances[nearest] <= most_px
        assert found.scores[nearest] == pytest.approx(score, abs=0.02)


# Faces


@pytest.mark.parametrize("kind", ["FLOAT", "HALF"])
def test_faces_of_frames_that_fit(gpu_machine, detector_engine, opened, cpu, wide, shared_data, kind):
    """Half a pixel of the detector's input, which both fill alike."""
    gpu_machine()
    types = {"input_type": kind, "output_type": kind, "confidence_type": kind}
    gpu = opened(open_detector(detector_engine(**types)))
    group = read_photo(shared_data / "photos" / "group.jpg")[100:676]
    for frame, count in ((wide, 2), (group, 14), (np.ascontiguousarray(wide[::-1]), 2)):
        expected = cpu(frame)
        assert len(expected) == count
        assert_same_faces(gpu(frame), expected, 0.5 * frame.shape[1] / 640)


@pytest.mark.parametrize("turn", [cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE])
def test_faces_that_lie_on_their_side(gpu_machine, detector_engine, opened, cpu, portrait, turn):
    gpu_machine()
    gpu = opened(open_detector(detector_engine(640, 640)))
    photo = np.ascontiguousarray(cv2.rotate(read_photo(portrait)[:, 60:], turn))
    found, expected = gpu(photo), cpu(photo)
    np.testing.assert_array_equal(found.rolls_deg, expected.rolls_deg)
    assert_same_faces(found, expected, 4)


@pytest.mark.parametrize("photo", ["crowd_profiles", "group", "no_face", "profile", "tilted_sunglasses", "two_people"])
def test_photos_of_any_shape(gpu_machine, detector_engine, opened, cpu, shared_data, photo):
    """The black beside a picture is wider than on the CPU: large boxes at a border differ by a few percent."""
    gpu_machine()
    gpu = opened(open_detector(detector_engine(640, 640)))
    image = read_photo(shared_data / "photos" / f"{photo}.jpg")
    found, expected = gpu(image), cpu(image)
    sides = expected.boxes_xyxy[:, 2:] - expected.boxes_xyxy[:, :2]
    assert_same_faces(found, expected, max(0.5 * max(image.shape) / 640, 0.04 * sides.max(initial=0)))


def test_onnx_runtime_runs_the_same_file(gpu_machine, fixed_detector, detector_engine, opened, wide):
    gpu_machine()
    onnx, gpu = open_detector(fixed_detector()), opened(open_detector(detector_engine()))
    assert isinstance(onnx._network, FixedSizeYuNet)
    assert_same_faces(gpu(wide), onnx(wide), 1.0)


def test_more_places_than_there_is_room_for(gpu_machine, detector_engine, fixed_detector, opened, wide):
    """Then the outputs are downloaded: the same faces as from ONNX Runtime, whose places are not counted."""
    machine = gpu_machine(integrated=False)
    least = 0.004
    gpu = opened(open_detector(detector_engine(), score_threshold=least))
    small = cv2.resize(wide, (640, 360), interpolation=cv2.INTER_AREA)
    machine.cuda.log.clear()
    found = gpu.find(small)
    levels = [16 * (384 // stride) * (640 // stride) * 4 for stride in (8, 16, 32)]
    assert [details["nbytes"] for _, details in machine.cuda.calls("download")][:3] == levels
    assert gpu._network._count[0] > MOST_ROWS
    expected = open_detector(fixed_detector(), score_threshold=least).find(small)
    assert len(found) == len(expected) > 50
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_a_picture_beyond_the_size_is_the_cpus(gpu_machine, detector_engine, fixed_detector, opened, cpu, portrait):
    """Told once, with the size to take."""
    gpu_machine()
    upright = np.zeros((900, 600, 3), np.uint8)
    upright[100:612, 40:552] = read_photo(portrait)
    for path in (detector_engine(), fixed_detector()):
        detector = opened(open_detector(path))
        with pytest.warns(RuntimeWarning, match=r"427 x 640 px do not fit the detector's 640x384 .*--size 448x640"):
            found = detector(upright)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = detector(upright)
        for each in (found, again):
            np.testing.assert_array_equal(each.boxes_xyxy, cpu(upright).boxes_xyxy)


def test_threads_share_a_detector(gpu_machine, detector_engine, opened, wide):
    """Each search finds its own picture in the memory."""
    gpu_machine()
    gpu = opened(open_detector(detector_engine()))
    frames = [wide, np.ascontiguousarray(wide[:, ::-1]), wide[:360, :640].copy()]
    expected = [gpu(frame) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(gpu, frames * 4)):
            np.testing.assert_array_equal(found.boxes_xyxy, expected[number % 3].boxes_xyxy)


# Work


def test_work_of_the_graph(gpu_machine, detector_engine, opened, wide):
    """A frame goes up once, whatever is searched in it; 33 kB come down for each search; nothing is allocated."""
    machine = gpu_machine(integrated=False)
    gpu = opened(open_detector(detector_engine()))
    assert [name for name, _ in machine.cuda.log[-len(STEPS) :]] == STEPS  # captured
    gpu(wide)
    machine.cuda.log.clear()
    gpu(wide)
    names = [name for name, _ in machine.cuda.log]
    assert names == ["upload", "launch", "record", "synchronize"]
    assert machine.cuda.log[0][1]["nbytes"] == wide.nbytes
    machine.cuda.log.clear()
    assert len(gpu(np.full((300, 500, 3), 128, np.uint8))) == 0
    assert len(machine.cuda.calls("launch")) == 9  # as it is, and in eight turns
    assert len(machine.cuda.calls("upload")) == 1
    assert machine.cuda.calls(*ALLOCATIONS) == []


def test_without_a_graph_every_step_is_launched(gpu_machine, detector_engine, opened, wide, cpu):
    machine = gpu_machine()
    machine.cuda.fail("capture", status="CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
    with pytest.warns(RuntimeWarning, match="no CUDA graph of the detector can be made"):
        gpu = opened(open_detector(detector_engine()))
    machine.cuda.heal()
    machine.cuda.log.clear()
    assert_same_faces(gpu(wide), cpu(wide), 1.0)
    assert [name for name, _ in machine.cuda.calls(*STEPS)] == ["upload", *STEPS]


# Frames that a mesher has


def pipelines(gpu_machine, detector_engine, opened, model, tmp_path, integrated=False, **options):
    machine = gpu_machine(integrated=integrated)
    runner = opened(open_runner(write_engine(tmp_path / "face.engine", model)))
    gpu = opened(open_detector(detector_engine()))
    cpu = opened(open_runner(model))
    pipeline = FaceMeshPipeline(runner, gpu, **options)
    return machine, pipeline, FaceMeshPipeline(cpu, gpu, **options)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_frame_goes_up_once_for_detector_and_faces(
    gpu_machine, detector_engine, opened, sure_model, tmp_path, wide, in_place, integrated
):
    """Also for second looks, and where memory is shared; and every frame anew, even if it is the same array."""
    machine, pipeline, alone = pipelines(gpu_machine, detector_engine, opened, sure_model, tmp_path, integrated)
    image = wide.copy()
    for frame in (wide, wide[:, ::-1], wide, np.zeros_like(wide)):
        expected = alone(np.ascontiguousarray(frame))
        if in_place:
            image = pipeline.frame_buffer(*wide.shape[:2])
        image[:] = frame
        machine.cuda.log.clear()
        faces = pipeline(image)
        assert [details["nbytes"] for _, details in machine.cuda.calls("upload")] == [wide.nbytes]
        assert len(faces) == len(expected) == (2 if frame.any() else 0)
        for face, other in zip(faces, expected, strict=True):
            np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.1)


def test_a_stream_uploads_every_frame_once(gpu_machine, detector_engine, opened, sure_model, tmp_path, wide):
    """While the faces of one are computed, the next is searched in the other slot."""
    machine, pipeline, alone = pipelines(gpu_machine, detector_engine, opened, sure_model, tmp_path)
    images = [wide, np.ascontiguousarray(wide[:, ::-1]), np.zeros_like(wide), wide]
    expected = [alone(image) for image in images]
    machine.cuda.log.clear()
    found = [faces for _, faces in pipeline.stream(Frame(image, n, n / 30, "film") for n, image in enumerate(images))]
    assert [details["nbytes"] for _, details in machine.cuda.calls("upload")] == [wide.nbytes] * 4
    for faces, others in zip(found, expected, strict=True):
        assert len(faces) == len(others)
        for face, other in zip(faces, others, strict=True):
            np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.1)


def test_boxes_of_the_user_upload_what_they_touch(gpu_machine, detector_engine, opened, sure_model, tmp_path, wide):
    """Also right after a frame that the detector saw."""
    machine, pipeline, _ = pipelines(gpu_machine, detector_engine, opened, sure_model, tmp_path)
    first = pipeline(wide)
    machine.cuda.log.clear()
    pipeline.from_boxes(wide, [face.box_xyxy for face in first[:1]])
    (nbytes,) = [details["nbytes"] for _, details in machine.cuda.calls("upload")]
    assert nbytes < wide.nbytes


def test_tracked_frames_are_searched_and_uploaded_whole_only_when_that_is_due(
    gpu_machine, detector_engine, opened, tmp_path, wide
):
    """A second in which nobody comes: two searches at most; otherwise the rows of the tracked faces go up."""
    machine, pipeline, alone = pipelines(
        gpu_machine, detector_engine, opened, SHIPPED_MODEL, tmp_path, tracking=Tracking()
    )
    frames, sizes, searches = [Frame(wide, n, n / 30, "film") for n in range(30)], [], []
    expected = [faces for _, faces in alone.stream(frames)]
    results = pipeline.stream(frames)
    for others in expected:
        machine.cuda.log.clear()
        _, faces = next(results)
        sizes.append([details["nbytes"] for _, details in machine.cuda.calls("upload")])
        searches.append(
            len([1 for _, details in machine.cuda.calls("launch") if details["stream"] == gpu_stream(pipeline)])
        )
        assert len(faces) == len(others) == 2
        for face, other in zip(faces, others, strict=True):
            assert face.track_id == other.track_id
            np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.2)
    assert sizes[0] == [wide.nbytes]
    looked = [number for number, count in enumerate(searches) if count]
    assert pipeline.detections == len(looked) <= 3
    for number, uploads in enumerate(sizes):
        assert len(uploads) == 1
        assert (uploads[0] == wide.nbytes) == (number in looked)


def gpu_stream(pipeline) -> int:
    return pipeline._detector._network._network.stream.handle


# Faults


def test_a_fault_while_a_frame_is_shared(gpu_machine, detector_engine, opened, sure_model, tmp_path, wide):
    """Costs that frame: the next one is uploaded anew."""
    machine, pipeline, alone = pipelines(gpu_machine, detector_engine, opened, sure_model, tmp_path)
    expected = alone(wide)
    for call in ("hold", "upload", "launch"):
        machine.cuda.fail(call, status="CUDA_ERROR_OUT_OF_MEMORY")
        with pytest.raises(FaceMeshError, match="CUDA_ERROR_OUT_OF_MEMORY"):
            pipeline(np.zeros_like(wide))
        machine.cuda.heal()
        machine.cuda.log.clear()
        faces = pipeline(wide)
        assert [details["nbytes"] for _, details in machine.cuda.calls("upload")] == [wide.nbytes]
        for face, other in zip(faces, expected, strict=True):
            np.testing.assert_allclose(face.landmarks, other.landmarks, atol=0.1)


def test_files_of_another_kind(gpu_machine, detector_engine, fixed_detector, sure_model, tmp_path):
    gpu_machine()
    face = write_engine(tmp_path / "face.engine", sure_model)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(fixed_detector().read_bytes())
    (tmp_path / "d.txt").write_text("")
    for path, problem in (
        (tmp_path / "none.engine", "no detector there"),
        (face, "a face network, which finds no faces; give it to --engine"),
        (sure_model, "a face network, which finds no faces|which finds no faces"),
        (damaged, "damaged.onnx.json"),
        (tmp_path / "d.txt", "no detector runs .txt"),
    ):
        with pytest.raises(FaceMeshError, match=problem) as caught:
            open_detector(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(FaceMeshError, match="a detector, which makes no meshes; give it to --detector"):
        open_runner(detector_engine())
    with pytest.raises(FaceMeshError, match="an engine, and the provider cuda"):
        open_detector(detector_engine(), provider="cuda")
    with pytest.raises(FaceMeshError, match="no provider cuda here"):
        open_detector(fixed_detector(), provider="cuda")


@pytest.mark.parametrize(
    ("words", "arguments", "problem"),
    [
        ({}, {"kernels": False}, "needs kernels for this device"),
        ({"output_type": "HALF"}, {}, "must take one picture and give one type"),
    ],
)
def test_engines_and_devices_that_do_not_do(gpu_machine, detector_engine, words, arguments, problem):
    machine = gpu_machine(**arguments)
    with pytest.raises(FaceMeshError, match=problem):
        open_detector(detector_engine(**words))
    assert all(not cuda.live for cuda in machine.cuda._same_device)


def test_after_close(gpu_machine, detector_engine, wide):
    machine = gpu_machine()
    with open_detector(detector_engine()) as detector:
        detector(wide)
    detector.close()
    assert all(not cuda.live for cuda in machine.cuda._same_device)
    with pytest.raises(RuntimeError, match="the detector is closed"):
        detector(wide)


def life(engine, wide):
    with open_detector(engine) as detector:
        detector(wide)


@pytest.mark.parametrize(
    "call", sorted(CALLS - {"memory_info", "elapsed_ms", "done", "decode", "hold", "make_current"})
)
@pytest.mark.parametrize("status", ["CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_OUT_OF_MEMORY"])
def test_device_lost_or_out_of_memory_at_any_call(gpu_machine, detector_engine, wide, call, status):
    """Each ends with one line that names the status, or without a graph; everything is released."""
    machine, engine, wide = gpu_machine(integrated=False), detector_engine(), wide[:360, :640].copy()
    life(engine, wide)
    count = len(machine.cuda.calls(call))
    assert count > 0
    messages: list[str] = []
    for nth in range(1, count + 1):
        machine.cuda.heal()
        machine.cuda.fail(call, nth, status)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                life(engine, wide)
            except FaceMeshError as error:
                messages.append(str(error))
        assert all(not cuda.live for cuda in machine.cuda._same_device)
    assert all(status in message and "\n" not in message for message in messages)
    assert messages or call in ("capture", "close", "launch")
