"""Read a camera or stream in a thread of its own, and open it again when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FaceMeshError
from runtime.sources.video import Device

FIRST_PAUSE_S = 0.5  # before a lost device is opened again; every pause after it is twice as long
LONGEST_PAUSE_S = 8.0
WAKE_S = 0.1  # between two looks at whether the run is to end
CLOSE_S = 2.0  # for a thread that waits for a device; after it the thread is left to the end of the process


class LiveReader:
    """The pictures of a device as they come, each with its time.

    Times are of a steady clock at the arrival, from the first picture on: rates and clocks of cameras are not to be
    trusted. With ``newest_only`` a picture that nobody has taken is dropped for the next one; without it the device
    waits, one picture ahead.
    """

    def __init__(
        self,
        open_device: Callable[[], Device],
        shown: str,
        *,
        newest_only: bool,
        patience_s: float,
        on_note: Callable[[str], None],
    ) -> None:
        """Open the device; raises `FaceMeshError` if that fails the first time.

        ``on_note`` gets one line when the device is lost, and one when it is back; it is called in another thread.
        """
        self.dropped = 0
        self._open_device = open_device
        self._shown = shown
        self._newest_only = newest_only
        self._patience_s = patience_s
        self._on_note = on_note
        self._device = open_device()
        self.fps = self._device.fps
        self._changed = threading.Condition()
        self._waiting: tuple[NDArray[np.uint8], float] | None = None
        self._count = 0
        self._start_s: float | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader of {shown}", daemon=True)

    def pictures(self, is_stopped: Callable[[], bool]) -> Iterator[tuple[NDArray[np.uint8], float]]:
        """Yield pictures with their times in seconds until ``is_stopped``.

        Raises `FaceMeshError` if the device is lost for longer than the patience.
        """
        self._thread.start()
        while not is_stopped():
            with self._changed:
                if self._waiting is None and not self._ended:
                    self._changed.wait(WAKE_S)
                item, self._waiting = self._waiting, None
                has_ended = self._ended  # under the lock, or a last picture that comes now would be lost
                self._changed.notify_all()
            if item is not None:
                yield item
            elif has_ended:
                if self._error is not None:
                    raise self._error
                return

    def close(self) -> None:
        """End the thread and close the device."""
        self._closing.set()
        if self._thread.ident is None:
            self._device.close()
        else:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                image = self._device.read()
                if image is not None:
                    self._put(image)
                elif self._device.ends:
                    return
                elif not self._closing.is_set():
                    self._open_again()
        except BaseException as error:
            self._error = error
        finally:
            self._device.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, image: NDArray[np.uint8]) -> None:
        now_s = time.monotonic()
        if self._start_s is None:
            self._start_s = now_s
        self._count += 1
        with self._changed:
            while self._waiting is not None and not self._newest_only and not self._closing.is_set():
                self._changed.wait(WAKE_S)
            self.dropped += self._waiting is not None
            self._waiting = image, now_s - self._start_s
            self._changed.notify_all()

    def _open_again(self) -> None:
        """Open the device until it gives a picture; raises `FaceMeshError` after the patience."""
        self._on_note(f"note: {self._shown}: lost after {self._count} pictures; opening it again")
        lost_s, pause_s = time.monotonic(), FIRST_PAUSE_S
        while True:
            self._device.close()
            left_s = lost_s + self._patience_s - time.monotonic()
            if left_s <= 0:
                remedy = "check its power and cable, and start again"
                fault = f"lost after {self._count} pictures and not back within {self._patience_s:g} s"
                raise FaceMeshError(f"{self._shown}: {fault}; {remedy}")
            if self._closing.wait(min(pause_s, left_s)):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                self._device = self._open_device()
                image = self._device.read()
            except FaceMeshError:
                continue
            if image is not None:
                self._on_note(f"note: {self._shown}: back after {time.monotonic() - lost_s:.1f} s")
                self._put(image)
                return
