"""Eight threads over one pipeline, one runner or one detector: every result is the one of a thread alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from runtime import FaceMeshPipeline, YuNetDetector, open_runner
from runtime.sources.photos import read_photo
from runtime.types import FaceMesh, Frame

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

THREADS, CALLS = 8, 12
BOX = [100, 60, 330, 320]


@pytest.fixture(scope="module")
def pictures(portrait) -> list[np.ndarray]:
    """Cuts of one photograph, so that each has a result of its own."""
    photo = read_photo(portrait)
    return [np.ascontiguousarray(photo[:360, left : left + 400]) for left in range(0, 100, 12)]


def same(faces: Sequence[FaceMesh], others: Sequence[FaceMesh]) -> bool:
    return len(faces) == len(others) and all(
        np.array_equal(face.vertices, other.vertices) and face.score == other.score
        for face, other in zip(faces, others, strict=True)
    )


def wrong_results(
    calls: Sequence[Callable[[np.ndarray], list[FaceMesh]]], pictures: list[np.ndarray], expected: list[list[FaceMesh]]
) -> int:
    """Call each of ``calls`` in a thread of its own, all at once; return the number of results that differ."""
    wrong: list[int] = []
    start = threading.Barrier(len(calls))

    def work(seed: int) -> None:
        order = np.random.default_rng(seed).integers(0, len(pictures), CALLS)
        start.wait()
        for number in order.tolist():
            if not same(calls[seed](pictures[number]), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(wrong)


def test_threads_share_a_pipeline(live_model, pictures):
    with open_runner(live_model) as runner:
        pipeline = FaceMeshPipeline(runner)
        expected = [pipeline.from_boxes(picture, [BOX]) for picture in pictures]
        assert not same(expected[0], expected[1])
        call = lambda picture: pipeline.from_boxes(picture, [BOX])  # noqa: E731
        assert wrong_results([call] * THREADS, pictures, expected) == 0


def test_pipelines_of_several_threads_share_a_runner_and_a_detector(live_model, pictures):
    detector = YuNetDetector()
    with open_runner(live_model) as runner:
        pipelines = [FaceMeshPipeline(runner, detector) for _ in range(THREADS)]
        expected = [pipelines[0](picture) for picture in pictures]
        assert all(len(faces) == 1 for faces in expected)
        assert wrong_results(pipelines, pictures, expected) == 0


def test_threads_share_a_pipeline_while_one_of_them_streams(live_model, pictures):
    with open_runner(live_model) as runner:
        pipeline = FaceMeshPipeline(runner)
        expected = [pipeline.from_boxes(picture, [BOX]) for picture in pictures]
        frames = [Frame(picture, index, 0.0, "x") for index, picture in enumerate(pictures)] * 4

        def stream(_: np.ndarray) -> list[FaceMesh]:
            found = list(pipeline.stream(frames, lambda frame: [BOX]))
            assert all(same(faces, expected[frame.index]) for frame, faces in found)
            return expected[0]

        def call(picture: np.ndarray) -> list[FaceMesh]:
            return pipeline.from_boxes(picture, [BOX])

        wrong = wrong_results([call, call, call], pictures, expected)
        streams = wrong_results([stream, stream], pictures[:1], expected[:1])
        assert (wrong, streams) == (0, 0)
