"""Native functions with arrays of any kind: a result or an error, never a fault of memory.

``make sanitize`` runs this over a build that notices every access beyond an array.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from runtime.compiled import native

CASES = 150
SIDES = (0, 1, 2, 3, 7, 64, 65, 200)


def numbers(chance: np.random.Generator, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Return an array with some numbers that are huge, infinite or none; now and then misaligned or not contiguous."""
    values = chance.normal(0, 10 ** chance.uniform(-3, 6), shape).astype(dtype)
    if values.size and chance.random() < 0.3:
        odd = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0], dtype)
        values.ravel()[chance.integers(values.size, size=3)] = chance.choice(odd, 3)
    kind = chance.integers(12)
    if kind == 0:
        return misaligned(values)
    return values[::-1] if kind == 1 else values


def misaligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins one byte off."""
    memory = np.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    return memory[1:].view(array.dtype).reshape(array.shape)


def side(chance: np.random.Generator) -> int:
    return int(chance.choice(SIDES))


def rasterise(chance: np.random.Generator) -> None:
    count, triangles = side(chance), side(chance)
    corners = chance.integers(
        -1 if chance.random() < 0.1 else 0, max(1, count) + (chance.random() < 0.1), (triangles, 3)
    )
    size_wh = (int(chance.choice([0, 1, 5, 64, 300])), int(chance.choice([-1, 1, 5, 64])))
    values = numbers(chance, (count, int(chance.integers(0, 5))))
    native.rasterise(numbers(chance, (count, 3)), corners.astype(np.int32), values, size_wh)


def visible_vertices(chance: np.random.Generator) -> None:
    count = side(chance)
    corners = chance.integers(0, max(1, count), (side(chance), 3)).astype(np.int32)
    native.visible_vertices(numbers(chance, (count, 3)), corners, float(chance.choice([0, 1, 1e9, -1, np.nan])))


def crop_axis_aligned(chance: np.random.Generator) -> None:
    image = chance.integers(0, 256, (side(chance), side(chance), 3), np.uint8)
    if chance.random() < 0.3:
        image = image[: image.shape[0] // 2, 1:]
    scale = float(chance.choice([0, 1e-9, 1e-4, 0.01, 0.3, 1, 5, 1e6, np.nan, np.inf]))
    shift = chance.normal(0, 10 ** chance.uniform(0, 9), 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    out = np.zeros((3, *[max(1, side(chance))] * 2), np.float32)
    native.crop_axis_aligned(image, matrix, int(chance.integers(0, 10)), out, False, bool(chance.integers(2)), 0.0, 1.0)


def finish_crop(chance: np.random.Generator) -> None:
    length = side(chance)
    out = np.zeros((length, length, 3), np.float32)
    if chance.random() < 0.2:
        out = misaligned(out)
    crop = chance.integers(0, 256, (length, side(chance) if chance.random() < 0.2 else length, 3), np.uint8)
    native.finish_crop(crop, out, True, False, -1.0, 1.0)


def decode(chance: np.random.Generator) -> None:
    resolution, map_size = (int(chance.choice([0, 1, 2, 7, 64, 256])) for _ in range(2))
    pixels = np.flatnonzero(chance.random(max(1, resolution) ** 2) < 0.5).astype(np.int32)
    landmarks = chance.integers(0, max(1, len(pixels)), 68).astype(np.int32)
    channels_last = bool(chance.integers(2))
    decoder = native.Decoder(pixels, landmarks, resolution, map_size, channels_last, 100.0)
    shapes = ((3, map_size, map_size), (map_size, map_size, 3))
    decoder(numbers(chance, shapes[channels_last ^ (chance.random() < 0.1)]), numbers(chance, (2, 3), np.float64))


def decode_coefficients(chance: np.random.Generator) -> None:
    vertices, coefficients = side(chance), side(chance)
    basis = numbers(chance, (3 * vertices, coefficients))
    bits = int(chance.choice([8, 16, 32]))
    numbers_mean = numbers(chance, (12 + coefficients,), np.float64)
    scales = (12, numbers_mean, np.ones(12 + coefficients), np.zeros((3, 4)), (0.0, 9.0), np.ones(4))
    decoder = native.CoefficientDecoder(numbers(chance, (vertices, 3)), basis, bits, *scales)
    count = 12 + coefficients + (chance.random() < 0.1)
    out = np.empty((vertices + (chance.random() < 0.1), 3), np.float32)
    decoder.decode_one(numbers(chance, (count,)), numbers(chance, (2, 3), np.float64), out)


def one_euro(chance: np.random.Generator) -> None:
    count = side(chance)
    arrays = [np.ascontiguousarray(numbers(chance, (count, 3))) for _ in range(3)]
    if chance.random() < 0.2:
        arrays[1] = misaligned(arrays[1])
    native.one_euro(*arrays, float(chance.choice([0, 1e-9, 0.04, 1e9])), 1.0, 0.1, 1.0)


def estimate_pose(chance: np.random.Generator) -> None:
    estimator = native.PoseEstimator(chance.normal(0, 80, (68, 3)))
    count = 68 - int(chance.random() < 0.1)
    landmarks = numbers(chance, (count, 3))
    found = estimator(landmarks)
    assert found is None or len(found) == 3
    seen = estimator.look(landmarks, numbers(chance, (2, 3), np.float64))
    assert (seen is None) == (found is None)
    if seen is not None:
        assert seen[0][:3] == found


def crop_matrix(chance: np.random.Generator) -> None:
    box = numbers(chance, (4 + int(chance.random() < 0.1),), np.float32 if chance.random() < 0.5 else np.float64)
    found = native.crop_matrix(misaligned(box) if chance.random() < 0.2 else box, 1.6, 128, 1e6)
    assert found is None or (found.shape == (2, 3) and np.isfinite(found[0, 0]))


def crop_fits(chance: np.random.Generator) -> None:
    matrix, wanted = numbers(chance, (2, 3), np.float64), numbers(chance, (2, 3), np.float64)
    native.crop_fits(matrix, wanted, int(chance.choice([0, 1, 128])), 0.1, 1.22)


def crop_region(chance: np.random.Generator) -> None:
    height, width = (int(chance.choice([0, 1, 5, 720, 1 << 24])) for _ in range(2))
    matrix = numbers(chance, (2, 3), np.float64) * 10 ** chance.uniform(-9, 9)
    top, bottom, left, right = native.crop_region(matrix, int(chance.choice([0, 1, 128])), height, width)
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width


def upright_box(chance: np.random.Generator) -> None:
    points = numbers(chance, (side(chance), 3))
    native.upright_box(misaligned(points) if chance.random() < 0.2 else points, float(chance.normal()))


def scene_change(chance: np.random.Generator) -> None:
    picture = chance.integers(0, 256, (side(chance), side(chance), 3)).astype(np.uint8)
    picture = picture[:, ::-1] if chance.random() < 0.1 else picture
    native.scene_change(picture, np.zeros((side(chance), side(chance)), np.uint8), int(chance.integers(-5, 300)))


def draw_landmarks(chance: np.random.Generator) -> None:
    plane = np.zeros((side(chance),) * 2, np.float32)
    native.draw_landmarks(numbers(chance, (68, 3)), numbers(chance, (2, 3), np.float64), plane)


def best_faces(chance: np.random.Generator) -> None:
    rows = numbers(chance, (side(chance), int(chance.choice([15, 15, 15, 14, 0]))))
    kept = native.best_faces(rows, float(chance.choice([-1, 0, 0.6, 2, np.nan])))
    assert len(kept) <= len(rows)
    assert (np.diff(kept[:, 14]) <= 0).all()


FUNCTIONS = (
    *(rasterise, visible_vertices, crop_axis_aligned, finish_crop),
    *(decode, decode_coefficients, one_euro, draw_landmarks),
    *(estimate_pose, crop_fits, crop_matrix, upright_box, scene_change),
    *(crop_region, best_faces),
)


@pytest.mark.parametrize("call", FUNCTIONS, ids=lambda call: call.__name__)
def test_any_arrays(call):
    done = 0
    for number in range(CASES):
        try:
            call(np.random.default_rng([1, number]))
            done += 1
        except (ValueError, TypeError):
            continue
    assert 0 < done < CASES


def test_misaligned_arrays_are_refused():
    vertices, triangles = np.zeros((3, 3), np.float32), np.zeros((1, 3), np.int32)
    for arrays in (
        (misaligned(vertices), triangles, vertices),
        (vertices, misaligned(triangles), vertices),
        (vertices, triangles, misaligned(vertices)),
    ):
        with pytest.raises(ValueError, match="not aligned"):
            native.rasterise(*arrays, (4, 4))


def test_a_crop_that_shows_the_whole_world_needs_no_memory():
    image, out = np.zeros((4, 4, 3), np.uint8), np.zeros((3, 8, 8), np.float32)
    matrix = np.array([[1e-9, 0, 0], [0, 1e-9, 0.0]])
    with pytest.raises(ValueError, match="a scale from 1e-7 on"):
        native.crop_axis_aligned(image, matrix, 8, out, False, False, 0.0, 1.0)


def test_finish_crop_lets_other_threads_run():
    """While it works on a large crop another thread counts; with the lock held it would not get further."""
    length, counted, stop = 3000, [0], threading.Event()
    crop, out = np.zeros((length, length, 3), np.uint8), np.zeros((length, length, 3), np.float32)

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        steps = []
        for _ in range(20):
            time.sleep(0)
            before = counted[0]
            native.finish_crop(crop, out, True, False, 0.0, 1.0)
            steps.append(counted[0] - before)
    finally:
        stop.set()
        thread.join()
    assert max(steps) > 0
