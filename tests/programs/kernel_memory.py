"""Where the tests of the kernels run them: on the host, or on a GPU."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

from runtime import _native
from runtime.cuda.driver import find_device
from runtime.cuda.interface import Cuda
from runtime.cuda.open_cuda import open_cuda

GUARD = 64  # bytes before and behind an output that must stay as they were


class Host:
    """The kernels' arithmetic, run by the CPU."""

    def run(
        self,
        kernel: str,
        outputs: dict[str, np.ndarray],
        arrays: dict[str, np.ndarray],
        *,
        keep: bool = False,
        **numbers,
    ) -> list[np.ndarray]:
        """Return what it writes in the place of ``outputs``; ``keep``: it adds to the numbers that they hold."""
        memory = {name: guarded(output, keep) for name, output in outputs.items()}
        addresses = {name: array.ctypes.data for name, array in arrays.items()}
        addresses |= {name: place.ctypes.data + GUARD for name, place in memory.items()}
        getattr(_native.host_kernels, kernel)(**addresses, **numbers, stream=0)
        return [unguarded(memory[name], output) for name, output in outputs.items()]


class Device:
    """The kernels themselves.

    Every array lies in device memory of its own, so that the memory checker sees each of its ends.
    """

    def __init__(self, cuda) -> None:
        self.cuda = cuda

    def run(
        self,
        kernel: str,
        outputs: dict[str, np.ndarray],
        arrays: dict[str, np.ndarray],
        *,
        keep: bool = False,
        **numbers,
    ) -> list[np.ndarray]:
        """Return what it writes in the place of ``outputs``; ``keep``: it adds to the numbers that they hold."""
        with ExitStack() as stack:
            stream = stack.enter_context(self.cuda.stream())

            def upload(array: np.ndarray) -> int:
                content = as_bytes(array)
                host = stack.enter_context(self.cuda.host_buffer(content.nbytes))
                device = stack.enter_context(self.cuda.device_buffer(content.nbytes))
                host.array[:] = content
                self.cuda.upload(device.pointer, host.pointer, content.nbytes, stream)
                return device.pointer

            addresses = {name: upload(array) for name, array in arrays.items()}
            targets = {name: upload(guarded(output, keep)) for name, output in outputs.items()}
            addresses |= {name: target + GUARD for name, target in targets.items()}
            getattr(self.cuda.kernels, kernel)(**addresses, **numbers, stream=stream.handle)
            results = []
            for name, output in outputs.items():
                nbytes = output.nbytes + 2 * GUARD
                result = stack.enter_context(self.cuda.host_buffer(nbytes))
                self.cuda.download(result.pointer, targets[name], nbytes, stream)
                stream.synchronize()
                results.append(unguarded(result.array, output))
            return results


def results_of(faces: int, count: int) -> dict[str, np.ndarray]:
    """What a decoder writes: points, and marks of blocks that have one which is not finite."""
    marks = -(-count // _native.POINTS_OF_A_MARK)
    return {"out": np.empty((faces, count, 3), np.float32), "not_finite": np.empty((faces, marks), np.uint8)}


def marks_of(points: np.ndarray) -> list[list[int]]:
    """The marks of points (n, count, 3)."""
    size = _native.POINTS_OF_A_MARK
    starts = range(0, points.shape[1], size)
    return [[int(not np.isfinite(face[start : start + size]).all()) for start in starts] for face in points]


def as_bytes(array: np.ndarray) -> np.ndarray:
    """From an array's first byte to its last, with what lies between its rows."""
    count = sum((side - 1) * stride for side, stride in zip(array.shape, array.strides, strict=True)) + array.itemsize
    return np.lib.stride_tricks.as_strided(
        array.view(np.uint8) if array.ndim == 1 else array[:1, ...].view(np.uint8), (count,), (1,)
    )


def guarded(out: np.ndarray, keep: bool) -> np.ndarray:
    memory = np.full(out.nbytes + 2 * GUARD, 0x5A, np.uint8)
    if keep:
        memory[GUARD:-GUARD] = as_bytes(out)
    return memory


def unguarded(memory: np.ndarray, like: np.ndarray) -> np.ndarray:
    assert np.all(memory[:GUARD] == 0x5A)
    assert np.all(memory[-GUARD:] == 0x5A)
    return memory[GUARD:-GUARD].view(like.dtype).reshape(like.shape).copy()


def real_device() -> Cuda:
    if find_device() is None:
        pytest.skip("needs an NVIDIA GPU")
    cuda = open_cuda()
    assert cuda.kernels is not None, "no kernels fit this device"
    return cuda
