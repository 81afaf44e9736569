"""Interfaces that every CUDA binding implements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np


class Closes(Protocol):
    """Owner of a resource of the driver until `close` or the end of its ``with``."""

    def close(self) -> None:
        """Release the resource; a second call does nothing."""

    def __enter__(self) -> Any: ...
    def __exit__(self, *exc_info: object) -> None: ...


class Stream(Closes, Protocol):
    """A queue of work on the device; does not wait for the default stream."""

    handle: int  # CUstream

    def synchronize(self) -> None:
        """Wait until all work queued so far is done."""


class Event(Closes, Protocol):
    """A mark in a stream."""

    def record(self, stream: Stream) -> None:
        """Queue the mark behind all work queued so far."""

    def hold(self, stream: Stream) -> None:
        """Let what is queued on ``stream`` from now on wait for the work before the last `record`."""

    def synchronize(self) -> None:
        """Wait until the work queued before the last `record` is done."""

    def done(self) -> bool:
        """Return True if that work is done, without waiting.

        ``while not event.done(): pass`` waits with the least delay and keeps a core busy.
        """

    def elapsed_ms(self, since: Event) -> float:
        """Return the milliseconds between two recorded, finished events made with ``timing``."""


class HostBuffer(Closes, Protocol):
    """Page-locked host memory. Its arrays own it: it is freed after `close`, when the last of them is gone."""

    array: np.ndarray  # (nbytes,) uint8
    pointer: int  # host address
    device_pointer: int  # the same memory as the device addresses it; 0 unless mapped


class DeviceBuffer(Closes, Protocol):
    """Memory of the device."""

    pointer: int  # device address
    nbytes: int


class Graph(Closes, Protocol):
    """A recorded sequence of device work. The memory that it reads and writes must stay in place."""

    def launch(self, stream: Stream) -> None:
        """Queue all the work that was captured."""


class DeviceFrame(Protocol):
    """A frame with room for it on the device."""

    height: int  # px
    width: int  # px

    def start(self) -> None:
        """Queue the upload of the whole frame, if it is not there yet."""

    def upload(self, stream: Stream) -> int:
        """Do what `start` does; return the device's address of the frame (height, width, 3) uint8 BGR.

        Later work on ``stream`` waits for the upload. It must be done before the next frame.
        """


class Kernels(Protocol):
    """Kernels of `runtime._native.KernelModule`, queued on ``stream``, a `Stream.handle`. Arguments go by keyword.

    Buffers are given as device addresses; their sizes are not checked. All raise `ValueError` for numbers out of range
    and `CudaError` for a launch that fails.
    """

    def crop(
        self,
        *,
        frame: int,
        height: int,
        width: int,
        row_stride: int,
        matrices: int,
        n: int,
        out: int,
        out_height: int,
        out_width: int,
        channels_last: bool,
        swap_colours: bool,
        low: float,
        high: float,
        half: bool,
        stream: int,
        landmarks: int = 0,
        view: int = 0,
    ) -> None:
        """Crop, antialias and normalise ``n`` faces of one frame, as `runtime.geometry.crop.crop_into` does.

        frame: (height, width, 3) uint8 BGR, ``row_stride`` bytes from row to row, on a 4-byte boundary.
        matrices: (n, 2, 3) float64 similarities, frame px -> crop px; a singular one gives a black crop.
        out: (n, 3, out_height, out_width), or (n, out_height, out_width, 3) for ``channels_last``; float32, or float16
        for ``half``; RGB for ``swap_colours``; ``low`` and ``high`` are the values of colours 0 and 255.
        landmarks: (n, 68, 3) float32, frame px, for the fourth plane of an out (n, 4, out_height, out_width), as
        `runtime.geometry.crop.draw_landmarks` fills it; 0: there is none.
        view: what `runtime._native.pack_frame_view` wrote, read on the device in place of ``frame``, ``height``,
        ``width`` and ``row_stride``, so that a captured crop may go to other frames; 0: those are used.
        """

    def decode(
        self,
        *,
        map: int,
        half: bool,
        map_size: int,
        channels_last: bool,
        scale: float,
        matrices: int,
        n: int,
        indices: int,
        count: int,
        resolution: int,
        out: int,
        not_finite: int,
        stream: int,
    ) -> None:
        """Decode ``count`` points of each of ``n`` position maps into frame px.

        map: (n, 3, map_size, map_size), or (n, map_size, map_size, 3) for ``channels_last``; float32, or float16 for
        ``half``; values times ``scale`` are crop px.
        matrices: (n, 2, 3) float64 similarities, frame px -> crop px.
        indices: (count,) int32 pixels of the flattened ``resolution`` x ``resolution`` grid; not checked.
        out: (n, count, 3) float32, frame px.
        not_finite: (n, ceil(count / `runtime._native.POINTS_OF_A_MARK`)) uint8, 1 where one of so many points in turn
        is not finite, else 0.
        """

    def decode_coefficients(
        self,
        *,
        output: int,
        half: bool,
        pose_count: int,
        coefficient_count: int,
        constants: int,
        mean: int,
        basis: int,
        basis_half: bool,
        matrices: int,
        n: int,
        count: int,
        out: int,
        not_finite: int,
        stream: int,
    ) -> None:
        """Decode ``count`` points of a face model for each of ``n`` faces into frame px.

        output: (n, pose_count + coefficient_count), whitened numbers; float32, or float16 for ``half``.
        constants: float32: the mean and the standard deviation of these numbers, a (3, 4) pose that is used if
        ``pose_count`` is 0, the two numbers of the origin, centre and radius of the mean face's sphere.
        mean: (3, count) float32, basis: (coefficient_count, 3, count) float32, or float16 for ``basis_half``.
        matrices: (n, 2, 3) float64 similarities, frame px -> crop px.
        out: (n, count, 3) float32, frame px. not_finite: as `decode` writes it.
        """

    def face_rows(
        self,
        *,
        stride_8: int,
        stride_16: int,
        stride_32: int,
        half: bool,
        height: int,
        width: int,
        threshold: float,
        most: int,
        out: int,
        stream: int,
    ) -> None:
        """Collect YuNet's faces in an input of ``height`` x ``width`` px, as `runtime.detection.yunet_rows` does.

        stride_8, stride_16, stride_32: (16, height / stride, width / stride) float32, or float16 for ``half``.
        out: (1 + most, 16) numbers of 32 bits. The first is a count, int32: the number of places that score at least
        ``threshold`` is added to it. From the second line on the first ``most`` of them, in any order: x, y, w, h, five
        points (x, y) px and score, float32, and the place, int32, in the order of strides, rows and columns.
        """


class Cuda(Closes, Protocol):
    """One device, its primary context current on this thread. Closing it closes everything it made.

    One thread at a time may use it.
    """

    name: str  # "Orin"
    compute_capability: str  # "8.7"
    integrated: bool  # shares its memory with the host (Jetson)
    kernels: Kernels | None  # None where no kernels fit the device or its driver

    def make_current(self) -> None:
        """Let the calling thread use the device. It costs no more than a call; PyCUDA and cuda-python cannot."""

    def stream(self) -> Stream:
        """Make a stream."""

    def event(self, *, blocking: bool = False, timing: bool = False) -> Event:
        """Make an event.

        ``blocking``: `Event.synchronize` sleeps and frees the core instead of spinning. ``timing``: for `elapsed_ms`.
        """

    def host_buffer(self, nbytes: int, *, mapped: bool = False) -> HostBuffer:
        """Allocate page-locked host memory; ``mapped`` memory can be used by the device without a copy."""

    def device_buffer(self, nbytes: int) -> DeviceBuffer:
        """Allocate memory of the device."""

    def upload(self, device_pointer: int, host_pointer: int, nbytes: int, stream: Stream) -> None:
        """Queue a copy from a host buffer to the device."""

    def download(self, host_pointer: int, device_pointer: int, nbytes: int, stream: Stream) -> None:
        """Queue a copy from the device to a host buffer."""

    def capture(self, stream: Stream, enqueue: Callable[[], object]) -> Graph:
        """Return a graph of the work that ``enqueue`` queues on ``stream``; it is recorded instead of done.

        The graph is uploaded, so that its first launch takes no longer than others. ``enqueue`` must not wait or
        allocate; garbage is not collected meanwhile. Any exception of it ends the capture and is raised here. Raises
        `CudaError` if no graph can be made; the stream is as before then.
        """

    def memory_info(self) -> tuple[int, int]:
        """Return the free and the total bytes of the device."""
