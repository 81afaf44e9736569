"""Cameras as they are: slow readers, loss and return, rates that are not true."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources import live
from runtime.sources.frame_source import FrameSource
from runtime.sources.live import LiveReader
from runtime.sources.video import ReadOptions


class Scripted:
    """A device that says it has 30 pictures a second and delivers what a script says.

    A number is a pause in seconds before the next picture, None a loss.
    """

    fps = 30.0
    ends = False

    def __init__(self, script):
        self.script = list(script)
        self.closed = False

    def read(self):
        if not self.script:
            time.sleep(0.05)
            return None
        step = self.script.pop(0)
        if step is None:
            return None
        time.sleep(step)
        return np.zeros((4, 6, 3), np.uint8)

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(live, "LONGEST_PAUSE_S", 0.04)


def reader_of(*devices, newest_only=False, patience_s=5.0, notes=None):
    """A reader whose device is the next of ``devices`` at each opening; an error among them is raised."""
    waiting = list(devices)

    def open_next():
        device = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(device, Exception):
            raise device
        return device

    on_note = (lambda line: None) if notes is None else notes.append
    return LiveReader(open_next, "camera:0", newest_only=newest_only, patience_s=patience_s, on_note=on_note)


def take(reader, count, pause_s=0.0):
    taken = []
    for _, time_s in reader.pictures(lambda: len(taken) >= count):
        taken.append(time_s)
        time.sleep(pause_s)
        if len(taken) == count:
            break
    reader.close()
    return taken


def test_every_picture_comes_in_order():
    device = Scripted([0.001] * 20)
    reader = reader_of(device)
    times = take(reader, 20, pause_s=0.002)
    assert len(times) == 20
    assert times[0] == 0
    assert np.diff(times).min() > 0
    assert reader.dropped == 0
    assert device.closed


def test_live_takes_the_newest_and_counts_the_dropped():
    reader = reader_of(Scripted([0.005] * 60), newest_only=True)
    times = take(reader, 4, pause_s=0.06)
    assert len(times) == 4
    assert reader.dropped >= 8
    assert np.diff(times).min() > 0.03  # not the next picture, the newest


@pytest.fixture
def short_close(monkeypatch):
    """For devices that are still waiting when they are closed."""
    monkeypatch.setattr(live, "CLOSE_S", 0.05)


def test_picture_comes_when_it_is_there_and_not_with_the_next(short_close):
    reader = reader_of(Scripted([0.0, 60.0]))
    pictures = reader.pictures(lambda: False)
    start = time.monotonic()
    next(pictures)
    assert time.monotonic() - start < 40
    reader.close()


def test_times_are_of_the_clock_and_not_of_the_rate_that_the_camera_tells():
    times = take(reader_of(Scripted([0.0] + [0.1] * 4)), 5)
    assert np.diff(times).min() > 0.05


def test_lost_camera_is_opened_again():
    notes = []
    gone = FaceMeshError("camera:0: no camera answers there")
    reader = reader_of(Scripted([0, 0, None]), gone, gone, Scripted([None]), Scripted([0, 0, 0]), notes=notes)
    times = take(reader, 5)
    assert len(times) == 5
    assert np.diff(times).min() > 0
    assert notes[0] == "note: camera:0: lost after 2 pictures; opening it again"
    assert notes[1].startswith("note: camera:0: back after ")


def test_camera_that_does_not_come_back():
    reader = reader_of(Scripted([0, None]), FaceMeshError("gone"), patience_s=0.2)
    seen = []
    with pytest.raises(FaceMeshError, match=r"camera:0: lost after 1 pictures and not back within 0\.2 s; check"):
        seen.extend(time_s for _, time_s in reader.pictures(lambda: False))
    reader.close()


def test_pauses_grow():
    opened = []

    def open_device():
        opened.append(time.monotonic())
        if len(opened) > 1:
            raise FaceMeshError("gone")
        return Scripted([0, None])

    reader = LiveReader(open_device, "camera:0", newest_only=False, patience_s=0.15, on_note=lambda line: None)
    with pytest.raises(FaceMeshError, match="not back"):
        list(reader.pictures(lambda: False))
    assert 3 <= len(opened) <= 8


def test_source_that_ends_is_no_loss():
    device = Scripted([0, 0, 0])
    device.ends = True
    reader = reader_of(device)
    assert len(list(reader.pictures(lambda: False))) == 3
    reader.close()


def test_last_picture_that_comes_with_the_end_is_not_lost():
    """The thread delivers it and ends between two looks of the caller."""

    class Late(Scripted):
        ends = True

        def read(self):
            looked.wait(10)
            return super().read()

    class Slow(threading.Condition):
        def __exit__(self, *arguments):
            super().__exit__(*arguments)
            if threading.current_thread() is not reader._thread:
                looked.set()
                reader._thread.join(10)

    looked = threading.Event()
    reader = reader_of(Late([0]), newest_only=True)
    reader._changed = Slow()
    assert len(list(reader.pictures(lambda: False))) == 1
    reader.close()


def test_fault_of_the_device_reaches_the_caller():
    class Faulty(Scripted):
        def read(self):
            raise ZeroDivisionError

    reader = reader_of(Faulty([]))
    with pytest.raises(ZeroDivisionError):
        list(reader.pictures(lambda: False))
    reader.close()


def test_nothing_is_left_running_after_close(monkeypatch):
    before = threading.active_count()
    take(reader_of(Scripted([0] * 5)), 2)
    assert threading.active_count() == before
    unread = reader_of(Scripted([0]))
    unread.close()
    assert unread._device.closed


@pytest.fixture
def camera(monkeypatch):
    """``camera(script)`` lets every OpenCV camera be one with that script; returns the device."""

    def install(script):
        device = Scripted(script)
        monkeypatch.setattr("runtime.sources.frame_source.Camera", lambda address, newest_only: device)
        return device

    return install


def test_frames_of_a_camera(camera):
    camera([0.0] + [0.01] * 30)
    with FrameSource("/dev/video3", options=ReadOptions(every=2, stop_s=0.15)) as source:
        assert (source.is_live, source.fps, source.frame_count, source.photos) == (True, 30.0, None, [])
        frames = list(source)
    assert [frame.index for frame in frames] == [*range(0, 2 * len(frames), 2)]
    assert 2 <= len(frames) <= 8
    assert {frame.source for frame in frames} == {"/dev/video3"}


def test_stop_wakes_a_source_that_waits(camera, short_close):
    camera([0.0, 60.0])
    with FrameSource("camera:0") as source:
        frames = iter(source)
        next(frames)
        threading.Timer(0.05, source.stop).start()
        start = time.monotonic()
        assert next(frames, None) is None
        assert time.monotonic() - start < 40  # not for the next picture
