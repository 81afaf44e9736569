"""Films: every one that people really have is read right, and what is broken is read as far as it goes."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources.frame_source import FrameSource
from runtime.sources.video import (
    ReadOptions,
    VideoFacts,
    check_frame_size,
    sound_pixel_aspect,
    square_size,
    steady_times,
)

pytest.importorskip("av", reason="needs PyAV: pip install 'facemesh-edge[video]'")

from runtime.sources import pyav_film
from tests.standins.bounded_run import bounded_run
from tests.standins.films import number_of, numbered, write_film


def read(path, errors=None, **options):
    on_error = None if errors is None else errors.append
    with FrameSource(path, on_error, ReadOptions(**options)) as source:
        return list(source)


def frames_or_error(path):
    """The frames of a film and None, or none and the line that tells why."""
    try:
        return read(path, errors=[]), None
    except FaceMeshError as error:
        return [], str(error)


@pytest.fixture
def without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "runtime.sources.pyav_film", raising=False)


@pytest.fixture(scope="module")
def cases(shared_data):
    return shared_data / "cases"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """60 frames, a key frame every 12, with frames that refer to later ones."""
    path = tmp_path_factory.mktemp("films") / "clip.mp4"
    return write_film(path, map(numbered, range(60)), options={"g": "12", "bf": "3"})


@pytest.mark.parametrize(
    ("name", "frames", "size_wh", "last_s"),
    [
        ("anamorphic.mp4", 10, (1280, 720), 0.36),
        ("hole_in_the_middle.mp4", 43, (640, 360), 2.16),
        ("interlaced_h264.mp4", 25, (640, 360), 0.96),
        ("static_jpeg_noise.avi", 30, (640, 360), 1.16),
        ("two_people.mp4", 50, (768, 344), 1.96),
        ("upside_down.mp4", 25, (640, 360), 0.96),
        ("vfr.mp4", 55, (640, 360), 5.36),
    ],
)
def test_shared_films(cases, name, frames, size_wh, last_s):
    errors = []
    found = read(cases / name, errors)
    assert len(found) == frames
    assert {frame.image.shape[1::-1] for frame in found} == {size_wh}
    assert found[-1].timestamp_s == pytest.approx(last_s, abs=1e-3)
    assert (len(errors) == 1) == (name == "hole_in_the_middle.mp4")
    for frame in found:  # a picture, and no memory that nothing was written to
        assert frame.image.std() > 10
        assert frame.image.flags.c_contiguous


def test_times_of_a_film_with_a_changing_rate(cases):
    times = [frame.timestamp_s for frame in read(cases / "vfr.mp4")]
    np.testing.assert_allclose(times[18:24], [0.72, 0.76, 0.8, 1.0, 1.2, 1.4], atol=1e-6)


def test_damaged_places_are_counted_and_passed_over(cases):
    errors = []
    with FrameSource(cases / "hole_in_the_middle.mp4", errors.append) as source:
        assert len(list(source)) == 43
        assert source.damaged == 12
    assert "hole_in_the_middle.mp4: 12 damaged places left out" in str(errors[0])
    with pytest.warns(UserWarning, match="12 damaged places"):
        assert len(read(cases / "hole_in_the_middle.mp4")) == 43


def test_interlaced_film_without_pyav_is_refused_or_right(cases, without_pyav):
    """OpenCV 4.13 and 5.0 fill no picture of it, without a word; others read it rightly."""
    frames, error = frames_or_error(cases / "interlaced_h264.mp4")
    assert len(frames) == (25 if error is None else 0)
    assert error is None or "facemesh-edge[video]" in error
    assert all(frame.image.std() > 10 for frame in frames)


@pytest.mark.parametrize("start_s", [0.0, 0.5])
def test_memory_that_opencv_never_writes_is_never_delivered(cases, without_pyav, monkeypatch, start_s):
    """An OpenCV that grabs and does not convert, from a frame on, as 5.0 does with interlaced frames."""

    real = cv2.VideoCapture

    class Forgetful:
        def __init__(self, *arguments):
            self._capture = real(*arguments)
            self._memory = None
            self._at = -1

        def __getattr__(self, name):
            return getattr(self._capture, name)

        def grab(self):
            self._at += 1
            return self._capture.grab()

        def retrieve(self):
            if self._memory is None:
                self._memory = np.empty((344, 768, 3), np.uint8)
            if self._at < 10:
                self._memory[:] = self._capture.retrieve()[1]
            return True, self._memory.copy()

        def read(self):
            return self.grab() and self.retrieve()

    monkeypatch.setattr(cv2, "VideoCapture", Forgetful)
    seen = []
    with pytest.raises(FaceMeshError, match=r"cannot be trusted with this film.*facemesh-edge\[video\]"):
        _index_into(seen, cases / "two_people.mp4", start_s)
    assert seen == ([*range(10)] if start_s == 0 else [])


def _index_into(seen, path, start_s):
    with FrameSource(path, options=ReadOptions(start_s=start_s)) as source:
        seen.extend(frame.index for frame in source)


def test_opencv_reads_sound_films_as_pyav_does(cases, without_pyav, request):
    names = ["anamorphic.mp4", "vfr.mp4", "two_people.mp4"]
    by_opencv = [read(cases / name) for name in names]
    request.getfixturevalue("monkeypatch").undo()
    for name, frames in zip(names, by_opencv, strict=True):
        expected = read(cases / name)
        assert len(frames) == len(expected)
        for one, other in zip(frames, expected, strict=True):
            assert one.index == other.index
            assert one.timestamp_s == pytest.approx(other.timestamp_s, abs=1e-6)
            assert np.abs(one.image.astype(int) - other.image).mean() < 2


def test_still_passages_are_no_failure_of_opencv(tmp_path, without_pyav):
    path = write_film(tmp_path / "still.avi", [numbered(5)] * 20 + [numbered(6)] * 9, codec="mpeg4")
    assert [number_of(frame.image) for frame in read(path)] == [5] * 20 + [6] * 9


@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_films_are_upright(tmp_path, without, rotation, request):
    """The display matrix turns counter-clockwise."""
    path = write_film(tmp_path / "turned.mp4", [numbered(3)] * 3, rotation=rotation)
    if without:
        request.getfixturevalue("without_pyav")
    shown = np.rot90(numbered(3), rotation // 90).astype(int)
    frames = read(path)
    assert len(frames) == 3
    for frame in frames:
        assert np.abs(frame.image - shown).mean() < 6


@pytest.mark.parametrize(("aspect", "size_wh"), [((4, 3), (213, 96)), ((1, 2), (160, 192)), ((1, 1), (160, 96))])
def test_pixels_are_square(tmp_path, aspect, size_wh):
    path = write_film(tmp_path / "a.mp4", [numbered(1)] * 2, pixel_aspect=Fraction(*aspect))
    with FrameSource(path) as source:
        assert source.video.pixel_aspect == Fraction(*aspect)
        assert {frame.image.shape[1::-1] for frame in source} == {size_wh}


@pytest.mark.parametrize("start_s", [0.03, 0.48, 1.3])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_a_part_of_a_film_is_what_the_whole_has_there(tmp_path, start_s, suffix):
    options = {"g": "12", "bf": "3", "flags": "-cgop"} if suffix != ".avi" else {"g": "12"}
    codec = "libx264" if suffix != ".avi" else "mpeg4"
    path = write_film(tmp_path / f"clip{suffix}", map(numbered, range(60)), options=options, codec=codec)
    whole = [frame for frame in read(path) if start_s <= frame.timestamp_s < start_s + 0.5]
    part = read(path, start_s=start_s, stop_s=start_s + 0.5)
    assert [frame.index for frame in part] == [frame.index for frame in whole]
    assert [frame.timestamp_s for frame in part] == [frame.timestamp_s for frame in whole]
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert number_of(one.image) == one.index


def test_start_does_not_decode_what_it_passes_over(clip, monkeypatch):
    from runtime.sources import pyav_film

    decoded = []
    original = pyav_film.PyAvFilm._decoded

    def counted(self, seen):
        for frame in original(self, seen):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(pyav_film.PyAvFilm, "_decoded", counted)
    assert [number_of(frame.image) for frame in read(clip, start_s=2.0)] == [*range(50, 60)]
    assert len(decoded) <= 12


def test_start_in_a_film_whose_first_frames_are_edited_away(shared_data):
    film = shared_data / "video" / "obama.mp4"
    assert [frame.index for frame in read(film, start_s=2.0)] == [50, 51, 52, 53, 54]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({"every": 7}, [0, 7, 14, 21, 28, 35, 42, 49, 56]),
        ({"every": 7, "start_s": 1.0}, [25, 32, 39, 46, 53]),
        ({"every": 100}, [0]),
        ({"stop_s": 0.1}, [0, 1, 2]),
        ({"start_s": 1.0, "stop_s": 1.08}, [25, 26]),
    ],
)
def test_every_start_and_stop(clip, options, numbers):
    with FrameSource(clip, options=ReadOptions(**options)) as source:
        assert source.expected_frames == pytest.approx(len(numbers), abs=1)
        frames = list(source)
    assert [frame.index for frame in frames] == numbers
    assert [number_of(frame.image) for frame in frames] == numbers


def test_start_after_the_end(clip):
    with pytest.raises(FaceMeshError, match=r"clip\.mp4: no frame from 99 s on; give an earlier --start"):
        read(clip, start_s=99.0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_film_cut_anywhere(tmp_path, suffix):
    """Every cut gives the frames up to it, or one line; nothing hangs."""
    codec = "libx264" if suffix != ".avi" else "mpeg4"
    container = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = write_film(tmp_path / f"whole{suffix}", map(numbered, range(40)), codec=codec, container=container)
    data = whole.read_bytes()
    counts = []
    for cut in [0, 1, 7, 40, *(int(len(data) * share) for share in np.linspace(0.02, 0.999, 16))]:
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[:cut])
        frames, error = frames_or_error(path)
        assert bool(frames) == (error is None)
        assert error is None or f"cut{suffix}: " in error
        times = [frame.timestamp_s for frame in frames]
        assert times == sorted(set(times))
        counts.append(len(frames))
    assert counts[-1] >= 35
    assert len(set(counts)) >= 5


@pytest.mark.parametrize("start", [b"", b"wide"])
@pytest.mark.parametrize("without", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.8, 0.98])
def test_cut_film_with_its_index_at_the_end(tmp_path, without, share, start, request):
    data = write_film(tmp_path / "whole.mp4", map(numbered, range(40))).read_bytes()
    if start:  # QuickTime of old
        data = b"\0\0\0\x08" + start + data[data.index(b"mdat") - 4 :]
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * share)] if share < 0.98 else data[: data.index(b"moov") - 4])
    if without:
        request.getfixturevalue("without_pyav")
    with pytest.raises(FaceMeshError, match=r"cut\.mp4: the film's index \(moov\).* is missing or cut off; copy"):
        read(path)


def test_film_that_is_damaged_otherwise(tmp_path):
    data = write_film(tmp_path / "whole.mp4", map(numbered, range(4)), container={"movflags": "faststart"}).read_bytes()
    for number, content in enumerate([data[:300], b"\1" * 999, b"\0\0\0\0ftyp", data[:4] + b"ftyp" + b"\xff" * 99]):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(content)
        with pytest.raises(FaceMeshError, match=rf"{number}\.mp4: ") as raised:
            read(path)
        assert ("moov" in str(raised.value)) == (number != 1)


def test_resolution_that_changes(tmp_path):
    """MPEG-TS files may be put one behind the other; the second one's clock starts again."""
    first = write_film(tmp_path / "1.ts", map(numbered, range(10)))
    second = write_film(tmp_path / "2.ts", [numbered(number, 192, 128) for number in range(10, 30)])
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    frames = read(tmp_path / "both.ts", errors=[])
    assert [number_of(frame.image) for frame in frames] == [*range(30)]
    assert [frame.image.shape[:2] for frame in frames] == [(96, 160)] * 10 + [(128, 192)] * 20
    times = np.array([frame.timestamp_s for frame in frames])
    assert np.diff(times).min() > 0
    assert times[-1] < 3


def test_film_with_sound_alone(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        film.mux(stream.encode(frame))
        film.mux(stream.encode())
    with pytest.raises(FaceMeshError, match=r"a\.mp4: cannot be opened as a video"):
        read(tmp_path / "a.mp4")


def test_name_that_looks_like_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "b.mp4", [numbered(1)] * 2).rename(tmp_path / "concat:b.mp4")
    assert len(read("concat:b.mp4")) == 2


def test_frames_go_into_the_memory_that_is_offered(clip):
    memory = np.zeros((96, 160, 3), np.uint8)
    with FrameSource(clip) as source:
        source.frame_buffer = lambda height, width: memory
        for frame in source:
            assert frame.image is memory
            assert number_of(memory) == frame.index


def test_stop_ends_a_film_early(clip):
    with FrameSource(clip) as source:
        seen = []
        for frame in source:
            seen.append(frame.index)
            if frame.index == 4:
                source.stop()
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("stored", "aspect"),
    [((4, 3), Fraction(4, 3)), ((0, 1), 1), ((1, 0), 1), ((-1, 2), 1), ((100, 1), 1), ((math.nan, 1), 1)],
)
def test_nonsense_of_a_header_is_no_aspect(stored, aspect):
    assert sound_pixel_aspect(*stored) == aspect


def test_square_pixels_lose_nothing():
    assert square_size(960, 720, Fraction(4, 3)) == (1280, 720)
    assert square_size(720, 576, Fraction(15, 16)) == (720, 614)


def test_rate_of_a_film_that_does_not_tell_its_own():
    assert (VideoFacts(fps=59.94).rate_hz, VideoFacts().rate_hz) == (59.94, 25.0)


def test_times_always_grow():
    last, shift, seen = None, 0.0, []
    for time_s in (0.0, 0.04, None, 0.12, 0.0, 0.04, 0.04, 5.0):
        last, shift = steady_times(time_s, last, 0.04, shift)
        seen.append(last)
    np.testing.assert_allclose(seen, [0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 5.2])


@pytest.fixture(scope="module")
def growing(tmp_path_factory):
    """Five frames of 160 x 96 px and five of 640 x 360 px."""
    folder = tmp_path_factory.mktemp("growing")
    small, large = (
        write_film(folder / f"{width}.h264", [numbered(number, width, height) for number in range(5)])
        for width, height in ((160, 96), (640, 360))
    )
    path = folder / "a.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    return path


@pytest.mark.parametrize(
    ("reader", "limit", "size", "read_before"),
    [
        ("film", 100_000, "640 x 360", {(96, 160, 3)}),
        ("film", 10_000, "160 x 96", set()),
        ("stream", 100_000, "640 x 360", {(96, 160, 3)}),
        ("stream", 10_000, "160 x 96", set()),
        ("OpenCV", 10_000, "160 x 96", set()),  # which reduces the later ones to the first one's size
    ],
)
def test_frames_beyond_the_bound_end_a_film(growing, monkeypatch, request, reader, limit, size, read_before):
    """Before they are decoded, also where the size changes in the middle."""
    monkeypatch.setenv("FACEMESH_MAX_FRAME_PIXELS", str(limit))
    monkeypatch.setattr(pyav_film, "STREAM_OPTIONS", {})  # they drop what is read to probe, here all
    if reader == "OpenCV":
        request.getfixturevalue("without_pyav")
    shapes = set()

    def run():
        if reader == "stream":
            device = pyav_film.PyAvStream(f"file:{growing}", str(growing))
            while (image := device.read()) is not None:
                shapes.add(image.shape)
        else:
            with FrameSource(growing) as source:
                shapes.update(frame.image.shape for frame in source)

    with pytest.raises(FaceMeshError, match=rf"a\.h264: frames of {size} px: [^\n]*FACEMESH_MAX_FRAME_PIXELS"):
        run()
    assert shapes == read_before


@pytest.mark.parametrize("with_pyav", [True, False])
def test_a_film_that_claims_large_frames_is_one_line(tmp_path, request, with_pyav):
    if not with_pyav:
        request.getfixturevalue("without_pyav")
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W15000 H15000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(1000))
    with bounded_run(), pytest.raises(FaceMeshError, match=r"a\.y4m: [^\n]+$"):
        read(path)


def test_square_pixels_count_for_the_bound():
    check_frame_size(8192, 4320, Fraction(1), "a")
    with pytest.raises(FaceMeshError, match="a: frames of 16384 x 4320 px"):
        check_frame_size(8192, 4320, Fraction(2), "a")
