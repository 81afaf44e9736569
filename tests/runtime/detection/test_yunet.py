"""YuNet and the one meaning of "box"."""

from __future__ import annotations

import json
import sys
import tarfile
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from runtime import _native
from runtime.detection import yunet as detector
from runtime.detection.box_map import FEATURES, box_features, landmark_boxes, load_box_map
from runtime.detection.interface import WholePicture
from runtime.detection.onnx_yunet import OnnxYuNet
from runtime.detection.opencv_yunet import OpenCvYuNet
from runtime.detection.yunet import YuNetDetector
from runtime.detection.yunet_rows import MOST_CANDIDATES, NMS_IOU
from runtime.errors import FaceMeshError
from runtime.geometry.boxes import box_iou
from runtime.geometry.crop import crop_matrix, warp_crop
from runtime.inference.open_runner import open_runner
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.photos import read_photo
from runtime.types import Detections
from tests.standins.bounded_run import bounded_run


@pytest.fixture(scope="module")
def yunet():
    return YuNetDetector()


@pytest.fixture(scope="module")
def portrait_image(portrait):
    return read_photo(portrait)


def centres_and_sizes(boxes):
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def overlap(a, b):
    """Intersection over union."""
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def test_portrait(yunet, portrait_image):
    found = yunet(portrait_image)
    assert len(found) == 1
    assert 0.8 < found.scores[0] <= 1
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    # Brows to chin and cheek to cheek, read off the picture.
    np.testing.assert_allclose(found.boxes_xyxy[0], [181, 87, 270, 178], atol=12)


@pytest.mark.parametrize("scale", [0.3, 2.5, 8.0])
def test_boxes_are_in_px_of_the_picture_at_any_size(yunet, portrait_image, scale):
    scaled = cv2.resize(
        portrait_image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    boxes = yunet(scaled).boxes_xyxy
    assert len(boxes) == 1
    np.testing.assert_allclose(boxes[0] / scale, yunet(portrait_image).boxes_xyxy[0], atol=6)


def test_place_in_a_wide_picture(yunet, portrait_image):
    """Width and height scale alike even where rounding the detector's input size distorts it."""
    wide = np.zeros((512, 3001, 3), np.uint8)
    wide[:, 2400:2912] = portrait_image
    boxes = yunet(wide).boxes_xyxy
    assert len(boxes) == 1
    np.testing.assert_allclose(boxes[0] - [2400, 0, 2400, 0], yunet(portrait_image).boxes_xyxy[0], atol=12)


@pytest.mark.parametrize("margin", [1.1, 1.3])
@pytest.mark.parametrize("photo", ["tilted_sunglasses.jpg", "profile.jpg", "two_people.jpg"])
def test_face_that_fills_a_large_picture(yunet, shared_data, photo, margin):
    """At its usual size the detector overlooks the first of these faces and puts poor boxes round the others."""
    image = read_photo(shared_data / "photos" / photo)
    box = yunet(image).boxes_xyxy[0]
    scale = 1000 / (margin * (box[2:] - box[:2]).mean())
    shift = 500 - scale * (box[:2] + box[2:]) / 2
    close_up = cv2.warpAffine(image, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (1000, 1000))
    assert overlap(yunet(close_up).boxes_xyxy[0], box * scale + np.tile(shift, 2)) > 0.72


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (2000, 3, 3), (300, 400, 3)])
def test_no_face_is_an_empty_result(yunet, shape):
    found = yunet(np.full(shape, 128, np.uint8))
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == (0,)


def test_group_photo_best_first_and_at_most(yunet, shared_data):
    group = read_photo(shared_data / "photos" / "group.jpg")
    found = yunet(group)
    assert len(found) == 14
    assert np.all(np.diff(found.scores) <= 0)
    np.testing.assert_array_equal(YuNetDetector(max_faces=3)(group).boxes_xyxy, found.boxes_xyxy[:3])


@pytest.mark.parametrize(
    ("turn", "roll"), [(cv2.ROTATE_90_CLOCKWISE, 90), (cv2.ROTATE_90_COUNTERCLOCKWISE, -90), (cv2.ROTATE_180, 180)]
)
@pytest.mark.parametrize("scale", [0.6, 2.0])
def test_faces_that_lie_on_their_side(yunet, portrait_image, turn, roll, scale):
    """Boxes are those of the upright picture, turned as the picture was; an upside-down face may pass for upright."""
    upright = cv2.resize(portrait_image[:, 60:], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found, expected = yunet(np.ascontiguousarray(cv2.rotate(upright, turn))), yunet(upright)
    (height, width), (x1, y1, x2, y2) = upright.shape[:2], expected.boxes_xyxy[0]
    corners = np.zeros((height, width), np.uint8)
    corners[round(y1) : round(y2) + 1, round(x1) : round(x2) + 1] = 255
    ys, xs = np.nonzero(cv2.rotate(corners, turn))
    box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float64)
    assert len(found) == len(expected) == 1
    if found.rolls_deg is not None or roll != 180:
        assert found.rolls_deg == roll
        np.testing.assert_allclose(found.boxes_xyxy[0], box, atol=1.5 + 0.04 * (x2 - x1))
    else:
        assert overlap(found.boxes_xyxy[0], box) > 0.3


@pytest.mark.parametrize("roll", [-135, 45, 135])
def test_faces_that_lie_askew(yunet, shared_data, monkeypatch, roll):
    """With that turn alone, since others show this face, too. The box is as large as the upright one, in its place."""
    monkeypatch.setattr(detector, "SURE_SCORE", 1.0)
    monkeypatch.setattr(detector, "TURNS", (((float(roll),), 226),))
    photo = read_photo(shared_data / "photos" / "profile.jpg")
    expected = Detections(landmark_boxes(yunet.find(photo), photo.shape[1::-1], load_box_map()), np.ones(1, np.float32))
    height, width = photo.shape[:2]
    side = int(np.hypot(height, width))
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -roll, 1.0)
    turn[:, 2] += (side - width) / 2, (side - height) / 2
    found = yunet(cv2.warpAffine(photo, turn, (side, side)))
    (centre,), (size,) = centres_and_sizes(expected.boxes_xyxy)
    (found_centre,), (found_size,) = centres_and_sizes(found.boxes_xyxy)
    np.testing.assert_allclose(found_centre, turn[:, :2] @ centre + turn[:, 2], atol=0.05 * size.mean())
    np.testing.assert_allclose(found_size, size, rtol=0.1)
    assert found.rolls_deg == roll


def test_small_faces_that_lie_on_their_side(yunet, shared_data):
    group = read_photo(shared_data / "photos" / "group.jpg")
    found = yunet(np.ascontiguousarray(cv2.rotate(group, cv2.ROTATE_90_CLOCKWISE)))
    assert len(found) >= 13
    assert (found.rolls_deg == 90).all()


def test_pictures_with_a_sure_face_are_not_turned(yunet, portrait_image, monkeypatch):
    sizes = []
    find_at = YuNetDetector._find_at
    monkeypatch.setattr(
        YuNetDetector, "_find_at", lambda self, image, side: sizes.append(side) or find_at(self, image, side)
    )
    assert yunet(portrait_image).rolls_deg is None
    assert sizes == [640]
    sizes.clear()
    assert len(yunet(np.full((700, 900, 3), 128, np.uint8))) == 0
    assert sizes == [640, *[320] * 8]


def test_threshold(portrait_image, yunet):
    score = yunet(portrait_image).scores[0]
    assert len(YuNetDetector(score_threshold=float(score) + 0.01)(portrait_image)) == 0


def test_constant_box_map():
    """Shift of the centre by 0.1 widths and -0.2 heights, half the width, twice the height; the points do not count."""
    coefficients = np.zeros((FEATURES, 4))
    coefficients[0] = [0.1, -0.2, np.log(0.5), np.log(2)]
    rows = np.array([[100, 200, 40, 60, *range(10), 0.9]], np.float32)
    boxes = landmark_boxes(rows, (400, 400), coefficients)
    np.testing.assert_allclose(boxes, [[124 - 10, 218 - 60, 124 + 10, 218 + 60]], rtol=1e-6)


def test_features_of_the_box_map():
    """Away from the borders; 2 px from the left one, which is half of the near tenth; and beyond the lower one."""
    points = np.array([110, 230, 120, 260, 140, 200, 100, 230, 120, 230])
    plain = [1, -0.25, 0, 0, 0.5, 0.5, -0.5, -0.5, 0, 0, 0]
    features = box_features(np.array([[100, 200, 40, 60, *points, 0.9]], np.float32), (400, 400))
    np.testing.assert_allclose(features, [plain + [0] * 44], atol=1e-6)
    moved = points - np.tile((98, 0), 5)
    features = box_features(np.array([[2, 200, 40, 60, *moved, 0.9]], np.float32), (400, 250)).reshape(5, 11)
    np.testing.assert_allclose(features, np.outer([1, 0.5, 0, 0, 1.5], plain), atol=1e-6)


def test_boxes_of_cut_faces(yunet, shared_data):
    """The box goes on beyond the border: photographs that the fit did not see, a quarter of the face cut off."""
    with np.load(shared_data / "train.npz") as labels:
        chosen = np.flatnonzero(labels["is_val"] & (labels["source"] == "helen"))
        truth = {str(labels["names"][i]): box for i, box in zip(chosen, labels["box"][chosen], strict=True)}
    overlaps = {side: [] for side in ("top", "left", "right", "bottom")}
    with tarfile.open(shared_data / "train.tar") as tar:
        for name, (x0, y0, x1, y1) in truth.items():
            image = cv2.imdecode(np.frombuffer(tar.extractfile(name).read(), np.uint8), cv2.IMREAD_COLOR)
            cuts = {"top": (0, y0 + (y1 - y0) / 4), "left": (x0 + (x1 - x0) / 4, 0)}
            for side, (left, top) in {**cuts, "right": (0, 0), "bottom": (0, 0)}.items():
                right = x1 - (x1 - x0) / 4 if side == "right" else image.shape[1]
                bottom = y1 - (y1 - y0) / 4 if side == "bottom" else image.shape[0]
                part = np.ascontiguousarray(image[int(top) : int(bottom), int(left) : int(right)])
                boxes = yunet(part).boxes_xyxy
                box = np.array([x0, y0, x1, y1]) - (int(left), int(top)) * 2
                overlaps[side].append(box_iou(box, boxes).max(initial=0))
    medians = {side: round(float(np.median(found)), 2) for side, found in overlaps.items()}
    assert min(medians.values()) > 0.75, medians


def test_shipped_box_map_fits_the_labels(shared_data, yunet):
    """Against the labelled boxes of photographs that the fit did not see, by the middle and the size of the box."""
    with np.load(shared_data / "train.npz") as labels:
        chosen = np.flatnonzero(labels["is_val"] & (labels["source"] != "300wlp_afw"))[::6]
        truth = {str(labels["names"][i]): box for i, box in zip(chosen, labels["box"][chosen], strict=True)}
    errors = []
    with tarfile.open(shared_data / "train.tar") as tar:
        for name, box in truth.items():
            image = cv2.imdecode(np.frombuffer(tar.extractfile(name).read(), np.uint8), cv2.IMREAD_COLOR)
            boxes = yunet(image).boxes_xyxy
            if len(boxes):
                centre, size = centres_and_sizes(boxes[:1])
                true_centre, true_size = centres_and_sizes(box[None])
                errors.append([*((centre - true_centre) / true_size.mean())[0], np.log(size.mean() / true_size.mean())])
    errors = np.array(errors)
    assert len(errors) > 0.9 * len(truth)
    assert np.abs(np.median(errors, axis=0)).max() < 0.04
    assert np.median(np.abs(errors)) < 0.06


def test_whole_picture_is_the_crop():
    box = WholePicture(1.6)(np.zeros((200, 200, 3), np.uint8)).boxes_xyxy[0]
    matrix = crop_matrix(box, 1.6, 128)
    corners = matrix @ np.array([[-0.5, -0.5, 1], [199.5, 199.5, 1]]).T
    np.testing.assert_allclose(corners.T, [[0, 0], [127, 127]], atol=1e-3)


@pytest.mark.parametrize("text", [None, "", "{}", '{"coefficients": [[1, 2]]}', '{"coefficients": [["a"]]}'])
def test_damaged_box_map(tmp_path, monkeypatch, text):
    path = tmp_path / "map.json"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr("runtime.detection.box_map.BOX_MAP", path)
    load_box_map.cache_clear()
    try:
        with pytest.raises(FaceMeshError, match=r"map\.json"):
            load_box_map()
    finally:
        load_box_map.cache_clear()


@pytest.mark.parametrize(("module", "name"), [("onnx_yunet", "YUNET_ONNX"), ("opencv_yunet", "YUNET")])
@pytest.mark.parametrize("content", [None, b"", b"no ONNX"])
def test_damaged_detector_model(tmp_path, monkeypatch, content, module, name):
    path = tmp_path / "yunet.onnx"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(f"runtime.detection.{module}.{name}", path)
    network = OnnxYuNet if module == "onnx_yunet" else OpenCvYuNet
    with pytest.raises(FaceMeshError, match=r"yunet\.onnx: .*; install"):
        network(0.6)


def test_both_networks_say_the_same(shared_data):
    """Of pictures of any size, some of them with borders to fill up."""
    networks, count = (OnnxYuNet(0.6), OpenCvYuNet(0.6)), 0
    for path in sorted((shared_data / "photos").glob("*.jpg")):
        photo = read_photo(path)
        for side in (240, 333):
            scale = side / max(photo.shape[:2])
            onnx, opencv = (one(cv2.resize(photo, None, fx=scale, fy=scale)) for one in networks)
            assert len(onnx) == len(opencv), path.name
            np.testing.assert_allclose(onnx, opencv[np.argsort(-opencv[:, 14], kind="stable")], atol=0.01)
            count += len(onnx)
    assert count > 30


def test_best_faces_are_opencvs():
    """Of boxes of which many overlap, score alike, or lie beyond a border."""
    generator = np.random.default_rng(0)
    for count in (0, 1, 40, 400):
        rows = generator.uniform(-9, 90, (count, 15)).astype(np.float32)
        rows[:, 2:4] = generator.uniform(0, 40, (count, 2))
        rows[:, 14] = np.round(generator.uniform(0.5, 1, count), 2)
        whole, scores = rows[:, :4].astype(np.int32).tolist(), rows[:, 14].tolist()
        wanted = cv2.dnn.NMSBoxes(whole, scores, 0.6, NMS_IOU, 1.0, MOST_CANDIDATES)
        found = _native.best_faces(rows, 0.6)
        np.testing.assert_array_equal(found, rows[np.asarray(wanted, np.intp).reshape(-1)])
        assert (count < 400) or 20 < len(found) < 300
    rows[0, 0], rows[1, 1], rows[2, 2], rows[3:, 14] = np.nan, np.inf, 1e9, 0.1
    assert _native.best_faces(rows, 0.6).shape == (0, 15)


def test_networks_of_tiny_pictures_and_none_found():
    for network in (OnnxYuNet(0.6), OpenCvYuNet(0.6)):
        for shape in ((1, 1, 3), (1, 700, 3), (64, 33, 3)):
            rows = network(np.zeros(shape, np.uint8))
            assert rows.shape == (0, 15)
            assert rows.dtype == np.float32


def test_without_onnx_runtime_opencv_detects(monkeypatch, portrait_image):
    monkeypatch.setitem(sys.modules, "runtime.inference.onnx_runner", None)
    detector = YuNetDetector()
    assert isinstance(detector._network, OpenCvYuNet)
    assert len(detector(portrait_image)) == 1


@pytest.mark.parametrize(("name", "least"), [("group_12mp.jpg", 12), ("selfie_with_friends.jpg", 5)])
def test_nobody_is_lost_beside_a_large_or_in_a_large_picture(shared_data, yunet, name, least):
    cases = shared_data / "cases"
    image = read_photo(cases / name)
    boxes = yunet(image).boxes_xyxy
    truth = [np.array(face["box"]) for face in json.loads((cases / "truth.json").read_text())[name]]
    assert sum(any(overlap(box, wanted) > 0.4 for box in boxes) for wanted in truth) >= least
    assert len(boxes) <= len(truth)
    largest = max(truth, key=lambda box: box[2] - box[0])
    assert any(overlap(box, largest) > 0.4 for box in boxes)


def test_a_smaller_input_of_the_detector_loses_small_faces(shared_data):
    group = read_photo(shared_data / "photos" / "group.jpg")
    assert 0 < len(YuNetDetector(side=160)(group)) < len(YuNetDetector()(group))


def test_close_up_adds_to_the_first_pass(portrait_image):
    """A large face and a small one in a corner: each is found by one pass alone."""
    small = cv2.resize(portrait_image[60:220, 140:300], (90, 90), interpolation=cv2.INTER_AREA)
    canvas = cv2.resize(portrait_image[60:220, 140:300], (1200, 1200), interpolation=cv2.INTER_CUBIC)
    canvas = cv2.copyMakeBorder(canvas, 0, 0, 0, 300, cv2.BORDER_CONSTANT, value=(90, 90, 90))
    canvas[40:130, 1350:1440] = small
    boxes = YuNetDetector()(canvas).boxes_xyxy
    assert len(boxes) == 2
    assert sorted((boxes[:, 0] > 1300).tolist()) == [False, True]


@pytest.mark.parametrize(("size_wh", "padded"), [((3, 5), (64, 64)), ((100, 20), (100, 64)), ((70, 80), (70, 80))])
def test_opencv_never_gets_a_picture_below_64_px(size_wh, padded):
    """OpenCV 4.10 reads memory that it did not write where the network's last layer is a single column or row."""
    network, sizes = OpenCvYuNet(0.6), []
    network._network = SimpleNamespace(
        setInputSize=sizes.append, detect=lambda image: (sizes.append(image.shape[1::-1]), None)
    )
    assert network(np.zeros((*size_wh[::-1], 3), np.uint8)).shape == (0, 15)
    assert sizes == [padded, padded]


def view(width, height):
    """A picture of black pixels that lies in three bytes."""
    return np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))


@pytest.fixture(scope="module")
def pipeline(live_model, yunet):
    with open_runner(live_model) as runner:
        yield FaceMeshPipeline(runner, yunet)


@pytest.mark.parametrize("call", ["detector", "rows", "crop", "pipeline"])
@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ((50_000, 50_000), "the image has 50000 x 50000 px: .*FACEMESH_MAX_PIXELS"),
        ((14_000, 14_000), "no memory for a copy of 14000 x 14000 px"),
    ],
)
def test_arrays_beyond_the_bound_or_the_memory_are_one_line(yunet, pipeline, call, size, problem):
    image = view(*size)
    calls = {
        "detector": lambda: yunet(image),
        "rows": lambda: yunet.find(image),
        "crop": lambda: warp_crop(image, np.eye(2, 3), 16),
        "pipeline": lambda: pipeline(image),
    }
    with bounded_run(), pytest.raises(FaceMeshError, match=rf"^{problem}[^\n]*$"):
        calls[call]()


@pytest.mark.parametrize(
    "image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), None]
)
def test_a_detector_takes_pictures_alone(yunet, image):
    for call in (yunet, yunet.find):
        with pytest.raises(ValueError, match=r"the image must be \(H, W, 3\) uint8"):
            call(image)


def test_views_are_searched_as_their_copies_are(yunet, portrait_image):
    image = np.ascontiguousarray(portrait_image[:, ::-1])[:, ::-1]
    np.testing.assert_array_equal(yunet.find(image), yunet.find(portrait_image))
