"""Annotated films: times, pixels and sound of the source, read back with FFmpeg."""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pytest

from runtime.sources.frame_source import FrameSource
from runtime.sources.video import ReadOptions, VideoFacts

av = pytest.importorskip("av", reason="needs PyAV: pip install 'facemesh-edge[video]'")

from runtime.outputs.h264_film import H264Film  # noqa: E402 - needs PyAV itself
from tests.standins.films import number_of, numbered, write_film  # noqa: E402


def copy(source_path, path, **options):
    """Write the frames of a film into another one, unchanged."""
    with FrameSource(source_path, options=ReadOptions(**options)) as source:
        film = None
        for frame in source:
            film = film or H264Film(path, frame.image, source.video)
            film.write(frame.image, frame.timestamp_s)
        film.close()
    return path


def read(path):
    with FrameSource(path) as source:
        return [(frame.timestamp_s, number_of(frame.image)) for frame in source]


def sound_packets(path):
    with av.open(str(path)) as film:
        return [(float(packet.pts * packet.time_base), bytes(packet)) for packet in film.demux(audio=0) if packet.size]


def open_files():
    return [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]


def test_times_are_those_of_the_source(tmp_path):
    times = [0.0, 0.04, 0.08, 0.28, 0.48, 1.3, 1.301, 2.0]
    write_film(tmp_path / "a.mp4", map(numbered, range(8)), times)
    found = read(copy(tmp_path / "a.mp4", tmp_path / "b.mp4"))
    assert [number for _, number in found] == [*range(8)]
    np.testing.assert_allclose([time_s for time_s, _ in found], times, atol=1e-4)
    with av.open(str(tmp_path / "b.mp4")) as film:
        assert (film.streams.video[0].codec_context.name, film.streams.video[0].pix_fmt) == ("h264", "yuv420p")


def test_colours(tmp_path):
    film = H264Film(tmp_path / "a.mp4", numbered(5), VideoFacts(25.0))
    film.write(numbered(5), 0.0)
    film.close()
    with FrameSource(tmp_path / "a.mp4") as source:
        assert np.abs(next(iter(source)).image.astype(int) - numbered(5)).mean() < 4


@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2), Fraction(16, 15)])
def test_pixel_aspect_and_stored_size_are_those_of_the_source(tmp_path, aspect):
    write_film(tmp_path / "a.mp4", map(numbered, range(3)), pixel_aspect=aspect)
    copy(tmp_path / "a.mp4", tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (160, 96, aspect)


@pytest.mark.parametrize("options", [{}, {"start_s": 0.5}, {"start_s": 0.5, "stop_s": 1.0}, {"every": 5}])
def test_sound_is_copied(tmp_path, options):
    write_film(tmp_path / "a.mp4", map(numbered, range(50)), audio=True)
    before = sound_packets(tmp_path / "a.mp4")
    after = sound_packets(copy(tmp_path / "a.mp4", tmp_path / "b.mp4", **options))
    start, stop = options.get("start_s", 0.0), options.get("stop_s", 99.0)
    kept = [(time_s - start, data) for time_s, data in before if start <= time_s < stop]
    assert [data for _, data in after] == [data for _, data in kept]
    np.testing.assert_allclose([time_s for time_s, _ in after], [time_s for time_s, _ in kept], atol=1e-3)


def test_a_film_that_is_given_up_closes_its_source(tmp_path):
    source = write_film(tmp_path / "a.mp4", map(numbered, range(5)), audio=True)
    film = H264Film(tmp_path / "b.mp4", numbered(0), VideoFacts(fps=10, audio=str(source)))
    assert str(source) in open_files()
    film.discard()
    assert str(source) not in open_files()
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_film_of_a_part_begins_at_zero(tmp_path):
    write_film(tmp_path / "a.mp4", map(numbered, range(50)))
    found = read(copy(tmp_path / "a.mp4", tmp_path / "b.mp4", start_s=1.0, stop_s=1.2))
    assert [number for _, number in found] == [25, 26, 27, 28, 29]
    np.testing.assert_allclose([time_s for time_s, _ in found], np.arange(5) / 25, atol=1e-4)


def test_odd_sides(tmp_path):
    film = H264Film(tmp_path / "a.mp4", numbered(1, 161, 97), VideoFacts())
    film.write(numbered(1, 161, 97), 0.0)
    film.close()
    with FrameSource(tmp_path / "a.mp4") as source:
        assert [frame.image.shape for frame in source] == [(98, 162, 3)]


def test_times_that_stand_still_or_go_back(tmp_path):
    film = H264Film(tmp_path / "a.mp4", numbered(0), VideoFacts(25.0))
    for number, time_s in enumerate([0.0, 0.0, 0.5, 0.2]):
        film.write(numbered(number), time_s)
    film.close()
    assert [number for _, number in read(tmp_path / "a.mp4")] == [0, 1, 2, 3]
