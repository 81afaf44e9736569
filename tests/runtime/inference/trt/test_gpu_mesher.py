"""From frame to mesh on the device, held against the CPU: results, order of work, waits, releases, faults.

All with stand-ins.
"""

from __future__ import annotations

import gc
import tracemalloc
import warnings
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime, which the stand-in runs engines with")

from runtime.cuda.errors import CudaError
from runtime.detection.yunet import YuNetDetector
from runtime.errors import FaceMeshError
from runtime.families.table import open_family
from runtime.geometry.crop import crop_into, crop_matrix
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.frame_memory import crop_region
from runtime.inference.trt.gpu_mesher import GpuMesher
from runtime.models.shipped import SHIPPED_MODEL
from runtime.sources.photos import read_photo
from runtime.tensors import InputSpec
from tests.programs.host_work import forgetful, measure, measure_changes, unavoidable
from tests.standins.fake_cuda import CALLS
from tests.standins.fake_engine import SCRATCH, write_engine

ALLOCATIONS = ("stream", "event", "host_buffer", "device_buffer", "capture")


def turned(x, y, side, degrees=0.0, size=128):
    """A crop whose upper left corner is (x, y) and whose sides are ``side`` px long, turned round that corner."""
    scale, angle = (size - 1) / side, np.radians(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, sin * y - cos * x], [sin, cos, -sin * x - cos * y]])


MATRICES = [
    turned(100, 80, 200),
    turned(300, 200, 90),
    turned(300, 100, 150, 23),
    turned(-40, 400, 160),
    turned(600, 20, 333, -70),
]


@pytest.fixture(scope="module")
def noise():
    """A frame in which every pixel counts, and no two places are alike."""
    patches = cv2.resize(
        np.random.default_rng(0).integers(0, 200, (12, 16, 3), np.uint8), (640, 480), interpolation=cv2.INTER_NEAREST
    )
    return patches + np.random.default_rng(1).integers(0, 56, (480, 640, 3), np.uint8)


@pytest.fixture
def runners(gpu_machine, sure_model, tmp_path):
    """``runners(model=sure_model, machine's arguments)`` -> the stand-in machine, a runner on the CPU and one of the
    same model on it."""
    opened = []

    def runners(model=sure_model, *, max_batch=8, sync="spin", engine_words=None, **cuda_arguments):
        machine = gpu_machine(**cuda_arguments)
        engine = write_engine(tmp_path / "m.engine", model, **(engine_words or {}))
        opened.extend([open_runner(model, max_batch), open_runner(engine, max_batch, sync=sync)])
        return machine, *opened[-2:]

    yield runners
    for runner in opened:
        runner.close()


def run(mesher, image, matrices):
    mesher.submit(image, matrices)
    return mesher.collect()


def assert_same(found, expected, atol=0.02):
    assert len(found) == len(expected)
    for face, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(face.vertices, wanted.vertices, atol=atol)
        np.testing.assert_allclose(face.landmarks, wanted.landmarks, atol=atol)
        assert (face.confidence is None) == (wanted.confidence is None)
        if wanted.confidence is not None:
            assert face.confidence == pytest.approx(wanted.confidence, abs=atol / 20)


# Results


@pytest.mark.skipif(not SHIPPED_MODEL.is_file(), reason="the trained model is not in runtime/assets yet")
@pytest.mark.parametrize("photo", ["portrait", "group"])
def test_photos_give_what_the_cpu_gives(runners, portrait, request, topology, photo):
    path = portrait if photo == "portrait" else request.getfixturevalue("shared_data") / "photos" / "group.jpg"
    image = read_photo(path)
    boxes = YuNetDetector()(image).boxes_xyxy
    assert len(boxes) == (1 if photo == "portrait" else 14)
    _, cpu, gpu = runners(SHIPPED_MODEL)
    size = cpu.spec.input.size
    matrices = [crop_matrix(box, cpu.spec.crop_scale, size) for box in boxes]
    matrices += [
        turned(x1 - 40, y1 - 40, x2 - x1 + 80, degrees, size)
        for (x1, y1, x2, _), degrees in zip(boxes, (-20, 10, -10), strict=False)
    ]
    on_cpu, on_gpu = cpu.mesher(open_family(cpu.spec, topology)), gpu.mesher(open_family(gpu.spec, topology))
    expected = run(on_cpu, image, matrices)
    for _ in range(3):  # launched step by step, captured, replayed
        found = run(on_gpu, image, matrices)
        for (vertices, _, _), (wanted, _, _), matrix in zip(found, expected, matrices, strict=True):
            side = size / np.linalg.norm(matrix[0, :2])  # of the crop in the photo
            is_turned = matrix[0, 1] != 0  # there OpenCV, which crops on the CPU, rounds positions to 1/32 px
            assert np.abs(vertices - wanted).max() < (0.003 if is_turned else 0.0001) * side


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("max_batch", [1, 3, 8])
def test_any_number_of_faces(runners, topology, noise, count, max_batch):
    _, cpu, gpu = runners(max_batch=max_batch)
    expected, mesher = (
        run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES[:count]),
        gpu.mesher(open_family(gpu.spec, topology)),
    )
    for _ in range(6):
        assert_same(run(mesher, noise, MATRICES[:count]), expected)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["FLOAT", "HALF"])
def test_layouts_and_types(runners, write_model, tmp_path, topology, noise, layout, kind):
    model = write_model(tmp_path / "m.onnx", layout=layout, confidence=True)
    words = {"input_type": kind, "output_type": kind, "confidence_type": kind}
    _, cpu, gpu = runners(model, engine_words=words)
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES)
    assert_same(
        run(gpu.mesher(open_family(gpu.spec, topology)), noise, MATRICES),
        expected,
        atol=0.02 if kind == "FLOAT" else 0.3,
    )


def rows_under(matrices, height=480, width=640):
    """Bytes of the rows of a frame between the first and the last that crops touch."""
    rows = [crop_region(matrix, 128, height, width)[0] for matrix in matrices]
    return 3 * width * (max(each.stop for each in rows) - min(each.start for each in rows if each.stop > each.start))


@pytest.mark.parametrize("max_batch", [2, 8])
@pytest.mark.parametrize("in_place", [False, True])
def test_only_the_rows_that_crops_touch_are_uploaded_once_a_frame(runners, topology, noise, max_batch, in_place):
    """Five faces, in one batch or three."""
    machine, cpu, gpu = runners(max_batch=max_batch, integrated=False)
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES)
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    for matrices in (MATRICES, MATRICES[1:2], MATRICES[3:4]):
        machine.cuda.log.clear()
        frame = mesher.frame_buffer(480, 640) if in_place else noise
        frame[:] = noise
        found = run(mesher, frame, matrices)
        assert [details["nbytes"] for _, details in machine.cuda.calls("upload")] == [rows_under(matrices)]
        assert len(machine.cuda.calls("launch")) == -(-len(matrices) // max_batch)
        if matrices is MATRICES:
            assert_same(found, expected)


@pytest.mark.parametrize(("model", "confidences"), [("live_model", 0), ("sure_model", 8 * 4)])
@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_work_of_a_frame(runners, topology, noise, integrated, dense, model, confidences, request):
    """View and matrices go up, confidences, marks and points come down; of shared memory only what is lent does."""
    machine, _, gpu = runners(request.getfixturevalue(model), integrated=integrated)
    mesher = gpu.mesher(open_family(gpu.spec, topology), dense)
    road = ["crop", "enqueue", "decode"] if integrated else ["upload", "crop", "enqueue", "decode"]
    captured = machine.cuda.log[-len(road) :]
    assert [name for name, _ in captured] == road
    assert integrated or captured[0][1]["nbytes"] == 32 + 8 * 48
    run(mesher, noise, MATRICES[:1] * 8)
    downloads = [details["nbytes"] for _, details in machine.cuda.calls("download")]
    points = 43867 + 68 if dense else 68
    marks = 8 * -(-points // 256)
    expected = -(-(confidences + marks) // 16) * 16 + 8 * points * 12
    assert downloads == ([expected] if dense or not integrated else [])


@pytest.mark.parametrize(("side", "is_copied"), [(190, False), (192, True)])
def test_shared_memory_is_copied_where_crops_read_its_pixels_again_and_again(runners, topology, noise, side, is_copied):
    """From two samples per crop pixel and axis on: the device does not cache what it reads of the host's memory."""
    machine, cpu, gpu = runners(integrated=True)
    matrices = [turned(100, 80, 90), turned(200, 100, side)]
    mesher, expected = (
        gpu.mesher(open_family(gpu.spec, topology)),
        run(cpu.mesher(open_family(cpu.spec, topology)), noise, matrices),
    )
    for _ in range(3):
        machine.cuda.log.clear()
        assert_same(run(mesher, noise, matrices), expected)
        copied = [details["nbytes"] for _, details in machine.cuda.calls("upload")]
        assert copied == ([rows_under(matrices)] if is_copied else [])


def test_landmarks_alone_are_816_bytes_and_their_marks(runners, live_model, topology, noise):
    machine, cpu, gpu = runners(live_model, integrated=False)
    mesher = gpu.mesher(open_family(gpu.spec, topology), dense=False)
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES[:1])
    ((vertices, landmarks, _),) = run(mesher, noise, MATRICES[:1])
    assert vertices.shape == (0, 3)
    np.testing.assert_allclose(landmarks, expected[0][1], atol=0.02)
    assert [details["nbytes"] for _, details in machine.cuda.calls("download")] == [16 + 816]
    assert run(cpu.mesher(open_family(cpu.spec, topology), dense=False), noise, MATRICES[:1])[0][0].shape == (0, 3)
    np.testing.assert_array_equal(
        run(cpu.mesher(open_family(cpu.spec, topology), dense=False), noise, MATRICES[:1])[0][1], expected[0][1]
    )


@pytest.mark.parametrize("max_batch", [2, 8])
def test_confidence_is_that_of_its_own_face(runners, topology, max_batch):
    """Five faces of different brightness, in one batch and in three."""
    frame = np.repeat(np.arange(20, 220, 40, dtype=np.uint8), 100)[None, :, None] * np.ones((100, 1, 3), np.uint8)
    matrices = [turned(100 * number, 0, 99) for number in (3, 0, 4, 1, 2)]
    _, cpu, gpu = runners(max_batch=max_batch)
    for mesher in (cpu.mesher(open_family(cpu.spec, topology)), gpu.mesher(open_family(gpu.spec, topology))):
        for _ in range(5):
            found = [face.confidence for face in run(mesher, frame, matrices)]
            np.testing.assert_allclose(found, np.float32([140, 20, 180, 60, 100]) / 255, atol=1e-3)
            assert all(type(confidence) is float for confidence in found)


def test_model_without_confidence_gives_none(runners, live_model, topology, noise):
    _, cpu, gpu = runners(live_model)
    for runner in (cpu, gpu):
        assert runner.confidence is None
        faces = run(runner.mesher(open_family(runner.spec, topology)), noise, MATRICES[:2])
        assert [face.confidence for face in faces] == [None] * 2


def test_meshes_own_their_arrays(runners, topology, noise):
    _, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    ((vertices, landmarks, _),) = run(mesher, noise, MATRICES[:1])
    before = vertices.copy(), landmarks.copy()
    for _ in range(4):
        run(mesher, 255 - noise, MATRICES[1:2])
    np.testing.assert_array_equal(vertices, before[0])
    np.testing.assert_array_equal(landmarks, before[1])
    assert not np.may_share_memory(vertices, landmarks)  # landmarks are kept longer


def test_vertices_are_lent_and_their_memory_used_again_once_nobody_holds_them(runners, topology, noise):
    machine, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    page_locked = [buffer.array for buffer in machine.cuda.live if getattr(buffer, "kind", "") == "host_buffer"]

    def vertices():
        return run(mesher, noise, MATRICES[:2])[1].vertices

    def is_lent(array):
        return any(np.may_share_memory(array, buffer) for buffer in page_locked)

    addresses = [vertices().ctypes.data for _ in range(12)]
    assert len(set(addresses)) == 3  # of either slot, and one to read
    assert is_lent(vertices())
    part = vertices()[5:7]
    before = part.copy()
    for _ in range(12):
        assert vertices().ctypes.data != part.ctypes.data - 60
        run(mesher, 255 - noise, MATRICES[1:3])
    np.testing.assert_array_equal(part, before)
    held = [part, *(vertices() for _ in range(20))]
    assert [is_lent(array) for array in held] == [True] * 4 + [False] * 17  # copies when all are lent
    assert len({array.ctypes.data for array in held}) == 21
    for array in held[1:]:
        np.testing.assert_array_equal(array, held[1])
    del held, array
    assert is_lent(vertices())


def test_the_last_face_that_is_held_keeps_the_memory_of_its_frame(runners, topology, noise):
    _, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    faces = run(mesher, noise, MATRICES[:3])
    last, block = faces[2].vertices, faces[0].vertices.ctypes.data
    del faces
    before = last.copy()
    assert block not in [run(mesher, noise, MATRICES[:3])[0].vertices.ctypes.data for _ in range(6)]
    np.testing.assert_array_equal(last, before)
    del last
    assert block in [run(mesher, noise, MATRICES[:3])[0].vertices.ctypes.data for _ in range(6)]


def test_vertices_outlive_their_runner(runners, topology, noise):
    """Blocks that nobody reads are gone with it, even while the mesher is held."""
    machine, cpu, gpu = runners()
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES)
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    found = run(mesher, noise, MATRICES)
    buffers = [buffer for buffer in machine.cuda.live if getattr(buffer, "kind", "") == "host_buffer"]
    blocks = [weakref.ref(buffer.array.base) for buffer in buffers if buffer.nbytes > 8 * 43867 * 12]
    del buffers
    assert len(blocks) == 2 + 4
    gpu.close()
    assert not machine.cuda.live
    gc.collect()
    assert sum(block() is not None for block in blocks) <= 2  # the lent one, and that of the slot collected last
    assert_same(found, expected)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("max_batch", [2, 8])
def test_points_that_are_not_finite_are_refused_and_the_next_frame_is_right(
    runners, topology, noise, max_batch, integrated, dense
):
    """In any face of any batch; the host does not look at them, the kernel has."""
    _, _, gpu = runners(max_batch=max_batch, integrated=integrated)
    mesher = gpu.mesher(open_family(gpu.spec, topology), dense)
    expected = run(mesher, noise, MATRICES)
    far = np.array([[1e-25, 0, 0], [0, 1e-25, 0]])  # its determinant is 0 in float32
    for place in range(5):
        with pytest.raises(FaceMeshError, match="the vertices are not finite: the model's output is unusable"):
            run(mesher, noise, [*MATRICES[:place], far, *MATRICES[place + 1 :]])
        assert_same(run(mesher, noise, MATRICES), expected, atol=0)


# Two frames in flight


def test_two_frames_in_flight_come_out_in_order(runners, topology, noise):
    _, cpu, gpu = runners()
    on_cpu, on_gpu = cpu.mesher(open_family(cpu.spec, topology)), gpu.mesher(open_family(gpu.spec, topology))
    frames = [noise, 255 - noise, noise[::-1].copy(), noise // 2, noise // 3]
    counts = [1, 0, 3, 2, 1]
    found = []
    for index, (frame, count) in enumerate(zip(frames, counts, strict=True)):
        on_gpu.submit(frame.copy(), MATRICES[:count])
        if index:
            found.append(on_gpu.collect())
    found.append(on_gpu.collect())
    for frame, count, meshes in zip(frames, counts, found, strict=True):
        assert_same(meshes, run(on_cpu, frame, MATRICES[:count]))


def test_a_frame_may_change_once_it_is_submitted(runners, topology, noise):
    _, cpu, gpu = runners()
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES)
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    frame = noise.copy()
    mesher.submit(frame, MATRICES)
    frame[:] = 0
    assert_same(mesher.collect(), expected)


def test_the_streams_of_two_frames_differ_so_that_they_overlap(runners, topology, noise):
    machine, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    for _ in range(2):
        run(mesher, noise, MATRICES[:1])
    machine.cuda.log.clear()
    mesher.submit(noise, MATRICES[:1])
    mesher.submit(noise, MATRICES[:1])
    assert len({details["stream"] for _, details in machine.cuda.calls("launch")}) == 2
    assert not machine.cuda.calls("synchronize")
    with pytest.raises(RuntimeError, match="2 frames are in flight: collect one first"):
        mesher.submit(noise, MATRICES[:1])
    assert len(mesher.collect()) == len(mesher.collect()) == 1


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("in_flight", [0, 1])
def test_other_crops_of_the_frame_collected_last(runners, topology, noise, in_flight, buffered):
    """Whatever is in flight, or lies in the buffer of the next frame, stays as it is."""
    _, cpu, gpu = runners()
    on_cpu, on_gpu = cpu.mesher(open_family(cpu.spec, topology)), gpu.mesher(open_family(gpu.spec, topology))
    first = on_gpu.frame_buffer(480, 640) if buffered else np.empty_like(noise)
    first[:] = noise
    on_gpu.submit(first, MATRICES[:1])
    following = on_gpu.frame_buffer(480, 640)
    following[:] = 255 - noise
    if in_flight:
        on_gpu.submit(following, MATRICES[:2])
    on_gpu.collect()
    assert_same(on_gpu.again(first, MATRICES[2:]), run(on_cpu, noise, MATRICES[2:]))
    assert_same(on_gpu.again(first, MATRICES[1:2]), on_cpu.again(noise, MATRICES[1:2]))
    assert on_gpu.again(first, []) == on_cpu.again(noise, []) == []
    np.testing.assert_array_equal(following, 255 - noise)
    if not in_flight:
        on_gpu.submit(following, MATRICES[:2])
    assert_same(on_gpu.collect(), run(on_cpu, 255 - noise, MATRICES[:2]))


def test_discarded_frames_leave_nothing_behind(runners, topology, noise):
    _, cpu, gpu = runners()
    expected, mesher = (
        run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES),
        gpu.mesher(open_family(gpu.spec, topology)),
    )
    for _ in range(3):
        mesher.submit(255 - noise, MATRICES[:3])
        mesher.submit(noise // 2, MATRICES[:1])
        mesher.discard()
        assert_same(run(mesher, noise, MATRICES), expected)


def test_memory_is_not_released_before_the_device_has_left_it(runners, topology, noise):
    machine, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    mesher.submit(noise[:100], MATRICES)
    mesher.submit(noise[:100], MATRICES)
    mesher.discard()
    machine.cuda.log.clear()
    mesher.submit(noise, MATRICES)
    names = [name for name, _ in machine.cuda.log]
    assert names.index("synchronize") < names.index("close") < names.index("launch")
    machine.cuda.log.clear()
    gpu.close()
    names = [name for name, _ in machine.cuda.log]
    assert names[:2] == ["synchronize"] * 2


# The frame's memory


def test_frame_buffers_take_turns_and_spare_the_copy(runners, topology, noise):
    _, cpu, gpu = runners()
    expected, mesher = (
        run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES),
        gpu.mesher(open_family(gpu.spec, topology)),
    )
    buffers = []
    for _ in range(6):
        buffer = mesher.frame_buffer(480, 640)
        buffer[:] = noise
        assert_same(run(mesher, buffer, MATRICES), expected)
        buffers.append(buffer.ctypes.data)
    assert buffers == buffers[:2] * 3
    assert buffers[0] != buffers[1]
    assert cpu.mesher(open_family(cpu.spec, topology)).frame_buffer(480, 640) is None


def test_what_lies_in_the_buffer_is_not_copied_and_the_rest_only_where_crops_touch_it(runners, topology, noise):
    _, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    rows, columns = crop_region(MATRICES[0], 128, 480, 640)
    buffer = mesher.frame_buffer(480, 640)
    buffer[:] = 7
    run(mesher, noise, MATRICES[:1])
    inside = np.zeros((480, 640), bool)
    inside[rows, columns] = True
    np.testing.assert_array_equal(buffer[inside], noise[inside])
    assert (buffer[~inside] == 7).all()
    assert 0.9 < inside.sum() / 200**2 < 1.1


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[50:450, 60:560],
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x[::2, ::3],
        lambda x: x[..., ::-1],
        np.asfortranarray,
    ],
)
def test_views_are_pictures_like_any_other(runners, topology, noise, view):
    _, cpu, gpu = runners()
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), np.ascontiguousarray(view(noise)), MATRICES[:1])
    assert_same(run(gpu.mesher(open_family(gpu.spec, topology)), view(noise), MATRICES[:1]), expected)


def test_parts_of_the_buffer_are_pictures_too(runners, topology, noise):
    _, cpu, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    for part in (np.s_[100:400, 50:600], np.s_[0:480, 0:320], np.s_[::-1]):
        mesher.frame_buffer(480, 640)[:] = noise
        expected = run(cpu.mesher(open_family(cpu.spec, topology)), np.ascontiguousarray(noise[part]), MATRICES)
        assert_same(run(mesher, mesher.frame_buffer(480, 640)[part], MATRICES), expected)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_no_picture(runners, topology, image):
    _, _, gpu = runners()
    with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8"):
        gpu.mesher(open_family(gpu.spec, topology)).submit(image, MATRICES[:1])


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.full((2, 3), np.nan), np.array([[1, 0, np.inf], [0, 1, 0]])])
def test_matrix_that_is_none(runners, topology, noise, matrix):
    _, cpu, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    with pytest.raises(ValueError, match="singular or not finite"):
        mesher.submit(noise, [MATRICES[0], matrix])
    assert_same(run(mesher, noise, MATRICES), run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES))


def test_regions_hold_all_that_crops_touch():
    """Pixels outside a region may be anything."""
    rng, spec = np.random.default_rng(0), InputSpec("image", 32, "NHWC", "BGR", (0.0, 255.0))
    found, changed = np.empty((32, 32, 3), np.float32), np.empty((32, 32, 3), np.float32)
    areas = []
    for number in range(300):
        height, width = rng.integers(1, 90, 2)
        matrix = turned(
            *rng.uniform(-60, 90, 2), rng.uniform(2, 200), rng.uniform(0, 360) if number % 2 else 0, size=32
        )
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        region = crop_region(matrix, 32, height, width)
        poisoned = np.full_like(image, 255)
        poisoned[region] = image[region]
        crop_into(image, matrix, spec, found)
        crop_into(poisoned, matrix, spec, changed)
        np.testing.assert_array_equal(changed, found)
        areas.append(image[region].size / image.size)
    assert 0.05 < np.mean(areas) < 0.8
    assert min(areas) == 0


def test_frame_size_that_changes_mid_stream(runners, topology, noise):
    """Memory stays for smaller frames and is replaced for larger ones; the graphs serve all of them."""
    machine, cpu, gpu = runners(integrated=False)
    on_cpu, on_gpu = cpu.mesher(open_family(cpu.spec, topology)), gpu.mesher(open_family(gpu.spec, topology))
    live = Counter()
    for height, width in [(480, 640)] * 6 + [(240, 320)] * 6 + [(470, 630)] * 3 + [(720, 1280)] * 6 + [(480, 640)] * 6:
        frame = np.resize(noise, (height, width, 3))
        assert_same(run(on_gpu, frame, MATRICES[:2]), run(on_cpu, frame, MATRICES[:2]))
        live[height, width] = len(machine.cuda.live)
    assert live[240, 320] == live[720, 1280] == live[480, 640]
    assert len(machine.cuda.calls("capture")) == 2 * 6
    frames = [
        buffer.nbytes
        for buffer in machine.cuda.live
        if getattr(buffer, "kind", "") == "host_buffer" and buffer.nbytes == 720 * 1280 * 3
    ]
    assert len(frames) == 2


# The work on the device


def test_a_frame_is_an_upload_a_launch_a_download_and_a_wait(runners, topology, noise):
    """From the first frame on, but for the memory of either slot."""
    machine, _, gpu = runners(integrated=False)
    mesher, calls = gpu.mesher(open_family(gpu.spec, topology)), []
    frame = ["upload", "launch", "download", "record", "synchronize"]
    for _ in range(6):
        machine.cuda.log.clear()
        run(mesher, noise, MATRICES[:1])
        calls.append([name for name, _ in machine.cuda.log])
    assert calls[0] == calls[1] == ["synchronize", "close", "close", "host_buffer", "device_buffer", *frame]
    assert calls[2] == calls[3] == calls[4] == calls[5] == frame


@pytest.mark.parametrize("integrated", [False, True])
def test_faces_that_come_and_go_and_frames_that_change_cost_no_new_work(runners, topology, noise, integrated):
    """Contexts and graphs are there from the start: 1 -> 3 -> 1 -> 5 faces, in frames of three sizes."""
    machine, cpu, gpu = runners(integrated=integrated)
    on_cpu, mesher = cpu.mesher(open_family(cpu.spec, topology)), gpu.mesher(open_family(gpu.spec, topology))
    mesher.warm_up(height=480, width=640)
    machine.cuda.log.clear()
    for height, width, count in [(480, 640, 1), (480, 640, 3), (240, 320, 1), (400, 600, 5), (480, 640, 8), (9, 7, 2)]:
        frame, matrices = np.ascontiguousarray(noise[:height, :width]), (MATRICES * 2)[:count]
        for _ in range(2):
            assert_same(run(mesher, frame, matrices), run(on_cpu, frame, matrices))
    assert not machine.cuda.calls(*ALLOCATIONS, "context", "close")
    assert {name for name, _ in machine.cuda.log} <= {"upload", "launch", "download", "record", "synchronize"}


def test_the_host_does_not_stall_when_the_number_of_faces_changes(live_model):
    """By a millisecond, beside the wait and what each face costs; `python -m tests.programs.host_work` prints it."""
    stalls = [measure_changes(live_model).max() for _ in range(3)]
    assert min(stalls) < 1000, stalls


def test_steady_state_allocates_nothing_and_waits_once_a_frame(runners, topology, noise):
    machine, _, gpu = runners()
    mesher = gpu.mesher(open_family(gpu.spec, topology))

    def frame(index):
        buffer = mesher.frame_buffer(480, 640)
        buffer[0, 0] = index % 256
        mesher.submit(buffer, MATRICES[:1])
        return mesher.collect()

    for index in range(6):
        frame(index)
    live = len(machine.cuda.live)
    machine.cuda.log.clear()
    for index in range(20):
        frame(index)
    assert len(machine.cuda.live) == live
    assert not machine.cuda.calls(*ALLOCATIONS, "close")
    assert len(machine.cuda.calls("synchronize")) == len(machine.cuda.calls("launch")) == 20
    machine.cuda.log.clear()
    machine.cuda.logging = False
    gc.collect()
    with forgetful():
        tracemalloc.start()
        for index in range(100):  # until Python's free lists hold nothing from before
            frame(index)
        gc.collect()
        before = tracemalloc.take_snapshot()
        for index in range(2000):
            frame(index)
        gc.collect()
        after = tracemalloc.take_snapshot()
        tracemalloc.stop()
    ours = [
        tracemalloc.Filter(False, tracemalloc.__file__),
        tracemalloc.Filter(False, "*onnxruntime*"),
    ]  # the stand-in's network is not
    growth = sum(
        entry.size_diff for entry in after.filter_traces(ours).compare_to(before.filter_traces(ours), "lineno")
    )
    assert growth < 4000  # bytes in 2000 frames


def test_each_size_of_batch_has_one_context_and_one_graph_per_slot(runners, topology, noise):
    machine, _, gpu = runners()
    machine.cuda.log.clear()
    mesher = gpu.mesher(open_family(gpu.spec, topology))
    sizes = Counter(details["batch"] for _, details in machine.cuda.calls("enqueue"))
    assert sizes == dict.fromkeys((1, 2, 3, 4, 6, 8), 2 * 3)  # the first run, one with the kernels, the captured one
    assert len(machine.cuda.calls("context")) == len(machine.cuda.calls("capture")) == 2 * 6
    scratch = [1 for _, details in machine.cuda.calls("device_buffer") if details["nbytes"] == SCRATCH]
    assert len(scratch) == 2, "contexts of one stream share their scratch memory"
    machine.cuda.log.clear()
    for count in (1, 2, 3, 4, 5, 6, 7, 8):
        run(mesher, noise, (MATRICES * 2)[:count])
    assert not machine.cuda.calls("context", "capture", "enqueue")


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1]), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (8, [1, 2, 3, 4, 6, 6, 8, 8])]
)
def test_sizes_of_batch(runners, topology, most, sizes):
    _, _, gpu = runners(max_batch=most)
    assert [gpu._engine.padded(count, most) for count in range(1, most + 1)] == sizes


def test_an_engine_without_the_flag_for_captures_says_so(gpu_machine, sure_model, tmp_path, topology, noise):
    """TensorRT-RTX is asked before a capture, which it would refuse."""
    for allowed in (False, True):
        machine = gpu_machine("rtx-1.7")
        engine = write_engine(
            tmp_path / f"{allowed}.engine",
            sure_model,
            {"library": "tensorrt-rtx", "version": "1.7.1.116"},
            rtx=True,
            user_allocation=allowed,
        )
        with open_runner(engine) as gpu, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            mesher = gpu.mesher(open_family(gpu.spec, topology))
            assert len(run(mesher, noise, MATRICES[:1])) == 1
            refusals = [str(each.message) for each in caught if "no CUDA graph can be made" in str(each.message)]
            assert bool(refusals) is not allowed
            assert bool(machine.cuda.calls("launch")) is allowed
            if not allowed:
                assert "allocates while it runs; build it again" in refusals[0]
                assert not machine.cuda.calls("capture")


def test_other_threads_may_take_turns(runners, topology, noise):
    _, cpu, gpu = runners()
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES)
    mesher, found = gpu.mesher(open_family(gpu.spec, topology)), []
    with ThreadPoolExecutor(1) as pool:
        found.append(pool.submit(run, mesher, noise, MATRICES).result())
    with ThreadPoolExecutor(1) as pool:
        mesher.submit(noise, MATRICES)
        found.append(pool.submit(mesher.collect).result())
    found.append(run(mesher, noise, MATRICES))
    for faces in found:
        assert_same(faces, expected)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gpu.infer, 1).result()
        pool.submit(gpu.close).result()


def test_a_network_that_cannot_be_captured_is_launched_step_by_step(runners, topology, noise):
    machine, cpu, gpu = runners()
    expected = run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES)
    machine.library.failing = "capture"
    refused = (
        "no CUDA graph can be made .execute_async_v3 failed: .*stream is capturing.*every step is launched by itself"
    )
    with pytest.warns(RuntimeWarning, match=refused) as caught:
        mesher = gpu.mesher(open_family(gpu.spec, topology))
    for _ in range(6):
        assert_same(run(mesher, noise, MATRICES), expected)
    assert len(caught) == len(machine.cuda.calls("capture")) == 1
    assert not machine.cuda.calls("launch")


def test_memory_that_is_short_shows_when_the_mesher_is_made(runners, topology, noise):
    machine, cpu, gpu = runners()
    family = open_family(gpu.spec, topology)
    expected = run(cpu.mesher(family), noise, MATRICES)
    for failing, message in (
        ("memory", "makes no execution context for 1 faces: cudaMalloc failed with CUDA_ERROR_OUT_OF_MEMORY"),
        ("shape", "refuses to run 1 faces"),
    ):
        machine.library.failing = failing
        with pytest.raises(FaceMeshError, match=message):
            gpu.mesher(family)
    machine.library.failing = ""
    assert_same(run(gpu.mesher(family), noise, MATRICES), expected)


def test_a_frame_for_which_memory_is_short_leaves_none_behind(runners, topology, noise):
    machine, cpu, gpu = runners(integrated=False)
    expected, mesher = (
        run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES),
        gpu.mesher(open_family(gpu.spec, topology)),
    )
    run(mesher, noise[:50, :50], MATRICES[:1])
    machine.cuda.fail("device_buffer")
    for _ in range(3):
        with pytest.raises(CudaError, match="CUDA_ERROR_OUT_OF_MEMORY"):
            mesher.submit(noise, MATRICES[:1])
    frames = [buffer for buffer in machine.cuda.live if getattr(buffer, "nbytes", 0) == noise.nbytes]
    assert not frames
    machine.cuda.heal()
    assert_same(run(mesher, noise, MATRICES), expected)


@pytest.mark.parametrize("sync", ["spin", "block"])
def test_how_to_wait(runners, topology, sync):
    machine, _, gpu = runners(sync=sync)
    machine.cuda.log.clear()
    gpu.mesher(open_family(gpu.spec, topology))
    assert [details["blocking"] for _, details in machine.cuda.calls("event")] == [sync == "block"] * 2


def test_the_host_does_little_beside_what_it_cannot_leave_out(live_model):
    """Seven times that where it was written; a context, a capture or an allocation in every frame would show."""
    ratios = [np.median(measure(live_model, 200)) / unavoidable(200) for _ in range(3)]
    assert min(ratios) < 15, ratios


# Faults


def a_life(engine, topology, noise):
    """A run that makes every kind of call: two sizes of frame and batch, captured and not, and what the host does
    alone."""
    with open_runner(engine) as runner:
        mesher = runner.mesher(open_family(runner.spec, topology), dense=False)
        assert isinstance(mesher, GpuMesher)
        for frame in (noise[:200, :200], noise[:100, :100], noise[:300, :300]):
            for _ in range(3):
                mesher.submit(frame, MATRICES[:1])
                mesher.submit(frame, MATRICES[:2])
                mesher.collect()
                mesher.collect()
        runner.infer(1)


def calls_of_a_life():
    """Those that `FakeCuda` knows and a mesher makes without a detector."""
    return sorted(CALLS - {"memory_info", "elapsed_ms", "done", "face_rows", "hold"})


@pytest.mark.parametrize("call", calls_of_a_life())
@pytest.mark.parametrize("status", ["CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_OUT_OF_MEMORY"])
def test_device_lost_or_out_of_memory_at_any_call(gpu_machine, engine, topology, noise, call, status):
    """Each ends with one line that names the status; everything is released, and what the library holds before the
    device is closed."""
    machine = gpu_machine(integrated=False)
    a_life(engine, topology, noise)
    count = len(machine.cuda.calls(call))
    assert count > 0
    for nth in {1, 2, count // 2} - {0} if call != "close" else {1}:
        machine = gpu_machine(integrated=False)
        machine.cuda.fail(call, nth, status)
        if call == "capture" and status == "CUDA_ERROR_OUT_OF_MEMORY":
            with pytest.warns(RuntimeWarning, match="no CUDA graph can be made"):
                a_life(engine, topology, noise)
        else:
            with pytest.raises(
                CudaError if call not in ("device_buffer", "enqueue", "context") else Exception, match=status
            ) as caught:
                a_life(engine, topology, noise)
            assert "\n" not in str(caught.value)
        gc.collect()
        assert not machine.cuda.live
        assert not machine.library.late


def test_ctrl_c_while_it_waits(runners, topology, noise, monkeypatch):
    """The frame is forgotten, the next one is right, and closing waits for the device."""
    machine, cpu, gpu = runners()
    expected, mesher = (
        run(cpu.mesher(open_family(cpu.spec, topology)), noise, MATRICES),
        gpu.mesher(open_family(gpu.spec, topology)),
    )
    from tests.standins.fake_cuda import FakeEvent

    def interrupted(event):
        raise KeyboardInterrupt

    mesher.submit(noise // 2, MATRICES)
    with monkeypatch.context() as patch:
        patch.setattr(FakeEvent, "synchronize", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mesher.collect()
    for _ in range(3):
        assert_same(run(mesher, noise, MATRICES), expected)
    mesher.submit(noise, MATRICES)
    gpu.close()
    assert not machine.cuda.live
