"""The command that measures the C library beside Python."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs onnxruntime")

from benchmarks.__main__ import main
from benchmarks.library import library as command
from benchmarks.library.building import build_program
from benchmarks.library.library import BLOCK, Program, PythonFilm, measure, swaying_portrait
from benchmarks.records.provenance import REPOSITORY
from runtime.errors import FaceMeshError
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import SHIPPED, SHIPPED_PICTURE


class Scripted:
    """Stands for one side: every frame takes so long and shows these landmarks."""

    def __init__(self, milliseconds: float, landmarks: tuple[float, ...]) -> None:
        self.milliseconds, self.landmarks, self.blocks = milliseconds, np.array(landmarks), 0

    def run(self, frames: int) -> tuple[list[float], np.ndarray]:
        self.blocks += 1
        return [self.milliseconds] * frames, self.landmarks


def test_blocks_take_turns_and_give_their_ratio():
    slow, fast = Scripted(3.0, (1, 2)), Scripted(2.0, (1, 2.5))
    times, ratio, difference = measure(fast, slow, 0.01)
    assert fast.blocks == slow.blocks
    assert len(times["C"]) == len(times["Python"]) >= 4 * BLOCK
    assert (ratio.estimate, ratio.low) == pytest.approx((2 / 3, 2 / 3))
    assert difference == 0.5


@pytest.mark.parametrize(
    ("landmarks", "others", "words"), [((1.0, 2.0), (), "different faces"), ((), (), "no face in the film")]
)
def test_films_that_cannot_be_measured(landmarks, others, words):
    with pytest.raises(FaceMeshError, match=words):
        measure(Scripted(1, landmarks), Scripted(1, others), 0.01)


def test_python_follows_the_film_to_and_fro():
    class Pipeline:
        seen: list[int] = []

        def __call__(self, frame):
            self.seen.append(int(frame.image[0, 0, 0]))
            return []

    images = [np.full((2, 2, 3), number, np.uint8) for number in range(4)]
    times, landmarks = PythonFilm(Pipeline(), images).run(9)
    assert Pipeline.seen == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert len(times) == 9
    assert landmarks.size == 0


def test_a_program_that_ends_is_one_line():
    words = [sys.executable, "-c", "import sys; input(); sys.exit('facemesh_frames: the film is shorter')"]
    with Program(words) as program, pytest.raises(FaceMeshError, match="the film is shorter"):
        program.run(3)


def test_the_portrait_sways_and_shows_its_face():
    frames = swaying_portrait(8)
    assert {frame.shape for frame in frames} == {(512, 512, 3)}
    assert np.abs(frames[0].astype(int) - frames[7]).mean() > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "nowhere.onnx"], "nowhere.onnx"),
        (["--source", str(SHIPPED_PICTURE)], "two frames of one size"),
        (["--source", "nowhere.mp4"], "nowhere.mp4"),
    ],
)
def test_bad_input_is_one_line(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr(command, "build_program", lambda folder: folder)
    assert main(["library", *arguments]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_machine_without_cmake(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main(["library", "--frames", "2"]) == 1
    assert "is not installed; install cmake" in capsys.readouterr().err


@pytest.mark.slow
def test_the_real_library(tmp_path, capsys):
    folder, path = REPOSITORY / "build" / "library-benchmark", tmp_path / "library.json"
    try:
        build_program(folder)
    except FaceMeshError as error:
        pytest.skip(str(error))
    arguments = ["--engine", str(SHIPPED["int8"]), "--seconds", "0.2", "--frames", "6", "--build", str(folder)]
    assert main(["library", *arguments, "--json", str(path)]) == 0
    assert "C / Python: " in capsys.readouterr().out
    document = json.loads(path.read_text())
    assert document["largest_difference_px"] < 1e-3
    assert document["frame"]["C"]["p50_ms"] > 0
    assert document["ratio"]["low"] <= document["ratio"]["estimate"] <= document["ratio"]["high"]
    with open_runner(SHIPPED["int8"]) as runner:
        assert document["engine"] == runner.spec.name
