"""The shipped model as an engine on a real GPU: what the stand-ins promise elsewhere."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from runtime.cuda.driver import find_device
from runtime.detection.yunet import YuNetDetector
from runtime.inference.open_runner import open_runner
from runtime.inference.trt.runner import open_model
from runtime.models.shipped import SHIPPED_MODEL
from runtime.pipeline import FaceMeshPipeline
from runtime.sources.photos import read_photo
from runtime.types import Frame

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.tensorrt,
    pytest.mark.skipif(find_device() is None, reason="needs a CUDA device"),
    pytest.mark.skipif(not SHIPPED_MODEL.is_file(), reason="the trained model is not in runtime/assets yet"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    pytest.importorskip("tensorrt", reason="needs TensorRT")
    pytest.importorskip("onnx", reason="needs onnx to build an engine")
    from export.__main__ import main

    path = tmp_path_factory.mktemp("engine") / "edge.engine"
    assert main(["engine", str(SHIPPED_MODEL), "-o", str(path), "--batch", "1", "1", "4"]) == 0
    return path


@pytest.fixture(scope="module")
def frames(portrait):
    """The portrait, shifted from frame to frame, then in another size."""
    image = read_photo(portrait)
    pictures = [np.roll(image, 3 * shift, axis=1) for shift in range(6)] + [
        np.ascontiguousarray(image[:400, 50:450])
    ] * 6
    return [Frame(picture, index, index / 25, "portrait") for index, picture in enumerate(pictures)]


@pytest.mark.parametrize("memory", ["copy", "mapped"])
@pytest.mark.parametrize("sync", ["spin", "block"])
def test_meshes_are_those_of_the_cpu(engine, frames, memory, sync):
    with open_runner(SHIPPED_MODEL) as runner:
        pipeline = FaceMeshPipeline(runner, YuNetDetector())
        expected = [pipeline(frame) for frame in frames]
    with warnings.catch_warnings(), open_model(engine, sync=sync, memory=memory) as runner:
        warnings.simplefilter("error", RuntimeWarning)  # no kernels for this device, or no graph
        found = list(FaceMeshPipeline(runner, YuNetDetector()).stream(frames))
    assert [frame.index for frame, _ in found] == list(range(len(frames)))
    for (_, faces), others in zip(found, expected, strict=True):
        assert len(faces) == len(others) == 1
        np.testing.assert_allclose(faces[0].vertices, others[0].vertices, atol=0.3)
        np.testing.assert_allclose(faces[0].landmarks, others[0].landmarks, atol=0.3)


def test_more_faces_than_a_batch(engine, frames):
    boxes = np.array(
        [[180, 70, 270, 180], [100, 60, 250, 210], [185, 75, 275, 185], [170, 70, 280, 200], [150, 50, 290, 190]],
        np.float32,
    )
    with open_runner(SHIPPED_MODEL) as runner:
        expected = FaceMeshPipeline(runner).from_boxes(frames[0], boxes)
    with open_runner(engine) as runner:
        assert runner.max_batch == 4
        pipeline = FaceMeshPipeline(runner)
        for _ in range(6):
            for face, other in zip(pipeline.from_boxes(frames[0], boxes), expected, strict=True):
                np.testing.assert_allclose(face.vertices, other.vertices, atol=0.5)
