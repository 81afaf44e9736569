"""Films that are long, without a face for long, of two sizes, cut off: nothing grows and every output is whole."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.detection.yunet import YuNetDetector
from runtime.inference.open_runner import open_runner
from runtime.outputs.sinks import open_sinks
from runtime.pipeline import FaceMeshPipeline
from runtime.run import main
from runtime.sources.frame_source import FrameSource
from runtime.tracking.options import Tracking

av = pytest.importorskip("av", reason="needs PyAV: pip install 'facemesh-edge[video]'")
pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from tests.standins.films import write_film  # noqa: E402

LONG = 1500  # frames
SETTLED = 500  # frames after which memory may not grow any more
MOST_GROWTH = 24 << 20  # bytes


@pytest.fixture(scope="module")
def face(portrait):
    """A small picture (96, 160, 3) with a face."""
    return cv2.resize(cv2.imread(str(portrait))[20:220, 60:393], (160, 96), interpolation=cv2.INTER_AREA)


def swaying(face: np.ndarray, count: int) -> Iterator[np.ndarray]:
    for index in range(count):
        matrix = np.array([[1, 0, 6 * np.sin(index / 9)], [0, 1, 3 * np.cos(index / 7)]])
        yield cv2.warpAffine(face, matrix, face.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def frames_of(path: Path) -> int:
    """Frames of a film that plays from end to end; ffprobe says so where there is one."""
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-of", "json", "-show_streams"]
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return int(json.loads(done.stdout)["streams"][0]["nb_read_frames"])
    with av.open(str(path)) as film:
        return sum(1 for _ in film.decode(video=0))


def memory() -> int:
    """Bytes of this process that lie in memory."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_long_film(tmp_path, face):
    count, used = LONG, {}
    path = write_film(tmp_path / "long.mp4", swaying(face, count), options={"preset": "ultrafast"})
    with open_runner(threads=1) as runner, FrameSource(path) as source:
        pipeline = FaceMeshPipeline(runner, YuNetDetector(), tracking=Tracking(max_faces=1))
        with open_sinks(tmp_path / "out", ["overlay", "json", "csv"], pipeline.family.topology, source.video) as sinks:
            for number, (frame, faces) in enumerate(pipeline.stream(source), 1):
                sinks.write(frame, faces)
                if number in (SETTLED, count):
                    used[number] = memory()
    assert used[count] - used[SETTLED] < MOST_GROWTH
    rows = lines_of(tmp_path / "out")
    assert [row["frame"] for row in rows] == [*range(count)]
    assert {tuple(face["track_id"] for face in row["faces"]) for row in rows} == {(1,)}
    assert pipeline.detections < 0.05 * count
    assert frames_of(tmp_path / "out" / "long_overlay.mp4") == count
    assert len((tmp_path / "out" / "landmarks.csv").read_text().splitlines()) == count + 1


@pytest.mark.slow
def test_a_minute_without_a_face(tmp_path, face):
    """Somebody comes back after a minute of an empty room and is found in the first frame, as a new person."""
    empty = cv2.GaussianBlur(cv2.flip(face, 0), (0, 0), 12)
    pictures = [*swaying(face, 20), *[empty] * 1500, *swaying(face, 20)]
    path = write_film(tmp_path / "room.mp4", pictures)
    assert main(["--source", str(path), "--output", str(tmp_path / "out"), "--threads", "1"]) == 0
    rows = lines_of(tmp_path / "out")
    numbers = [tuple(face["track_id"] for face in row["faces"]) for row in rows]
    assert numbers == [(1,)] * 20 + [()] * 1500 + [(2,)] * 20
    assert frames_of(tmp_path / "out" / "room_overlay.mp4") == len(pictures)


@pytest.mark.slow
def test_a_film_of_two_sizes(tmp_path, face):
    """Two recordings, one behind the other, as a camera writes them; outputs are of both."""
    large = cv2.resize(face, (240, 144))
    first = write_film(tmp_path / "1.ts", swaying(face, 20))
    second = write_film(tmp_path / "2.ts", swaying(large, 20))
    path = tmp_path / "both.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert main(["--source", str(path), "--output", str(tmp_path / "out"), "--threads", "1"]) == 0
    rows = lines_of(tmp_path / "out")
    assert [row["frame"] for row in rows] == [*range(40)]
    assert {tuple(face["track_id"] for face in row["faces"]) for row in rows} == {(1,)}
    widths = [np.ptp(np.array(row["faces"][0]["box_xyxy"])[::2]) for row in rows]
    assert np.mean(widths[22:]) == pytest.approx(1.5 * np.mean(widths[:20]), rel=0.1)
    assert frames_of(tmp_path / "out" / "both_overlay.mp4") == 40


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.62, 0.9])
def test_outputs_of_a_film_that_is_cut_off_are_whole(tmp_path, face, share):
    whole = write_film(tmp_path / "whole.ts", swaying(face, 40)).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(whole[: int(share * len(whole))])
    assert main(["--source", str(path), "--output", str(tmp_path / "out"), "--threads", "1"]) in (0, 1)
    rows = lines_of(tmp_path / "out")
    assert [row["frame"] for row in rows] == [*range(len(rows))]
    assert 0 < len(rows) < 40
    assert frames_of(tmp_path / "out" / "cut_overlay.mp4") == len(rows)
