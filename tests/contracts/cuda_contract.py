"""Tests for every implementation of `runtime.cuda.interface.Cuda`.

A subclass named Test… runs them, with a fixture ``cuda`` of its module.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from runtime.cuda.errors import CudaError
from runtime.cuda.interface import Cuda

PATTERN = np.arange(256, dtype=np.uint8)


class CudaContract:
    @pytest.fixture
    def stream(self, cuda: Cuda):
        with cuda.stream() as stream:
            yield stream

    def test_device(self, cuda: Cuda):
        assert cuda.name
        assert re.fullmatch(r"\d+\.\d+", cuda.compute_capability)
        assert cuda.integrated in (True, False)
        free, total = cuda.memory_info()
        with cuda.device_buffer(1 << 24):
            assert cuda.memory_info() == (pytest.approx(free, abs=1 << 28), total)
        assert 0 < free <= total

    def test_host_memory(self, cuda: Cuda):
        with cuda.host_buffer(1000) as host:
            assert (host.array.shape, host.array.dtype) == ((1000,), np.uint8)
            assert (host.array.ctypes.data, host.device_pointer) == (host.pointer, 0)
            host.array[:] = 7
        assert host.array.size == 0

    def test_arrays_own_their_page_locked_memory(self, cuda: Cuda, stream):
        """Of a closed buffer, a view of it stays as it was, whatever is allocated after it."""
        with cuda.host_buffer(1 << 16) as host:
            host.array[:] = 7
            part = host.array[1000:2000]
        with cuda.host_buffer(1 << 16) as another:
            another.array[:] = 8
        cuda.close()
        assert (part == 7).all()

    def test_copies_are_done_when_the_wait_is_over(self, cuda: Cuda, stream):
        with cuda.host_buffer(256) as source, cuda.host_buffer(256) as result, cuda.device_buffer(256) as device:
            assert device.nbytes == 256
            source.array[:], result.array[:] = PATTERN, 0
            cuda.upload(device.pointer, source.pointer, 256, stream)
            cuda.download(result.pointer + 100, device.pointer + 50, 100, stream)
            stream.synchronize()
            np.testing.assert_array_equal(result.array, np.concatenate([np.zeros(100), PATTERN[50:150], np.zeros(56)]))

    @pytest.mark.parametrize("blocking", [False, True])
    @pytest.mark.parametrize("spinning", [False, True])
    def test_event(self, cuda: Cuda, stream, blocking, spinning):
        with (
            cuda.event(blocking=blocking) as event,
            cuda.host_buffer(1 << 20) as host,
            cuda.device_buffer(1 << 20) as device,
        ):
            assert event.done(), "nothing was recorded yet"
            for value in (1, 2):
                host.array[:] = value
                cuda.upload(device.pointer, host.pointer, 1 << 20, stream)
                cuda.download(host.pointer, device.pointer, 1 << 20, stream)
                event.record(stream)
                if spinning:
                    while not event.done():
                        pass
                else:
                    event.synchronize()
                assert event.done()
                assert (host.array == value).all()

    def test_event_waits_for_its_own_stream(self, cuda: Cuda, stream):
        with (
            cuda.stream() as other,
            cuda.event() as event,
            cuda.host_buffer(512) as host,
            cuda.device_buffer(512) as device,
        ):
            assert other.handle != stream.handle
            host.array[:] = 5
            cuda.upload(device.pointer, host.pointer, 256, stream)
            event.record(stream)
            cuda.upload(device.pointer + 256, host.pointer, 256, other)
            event.synchronize()
            assert event.done()
            other.synchronize()

    def test_a_stream_waits_for_the_work_of_another(self, cuda: Cuda, stream):
        with (
            cuda.stream() as other,
            cuda.event() as event,
            cuda.host_buffer(1 << 20) as source,
            cuda.host_buffer(1 << 20) as result,
            cuda.device_buffer(1 << 20) as device,
        ):
            event.hold(other)  # nothing was recorded yet
            for value in (5, 6):
                source.array[:], result.array[:] = value, 0
                cuda.upload(device.pointer, source.pointer, 1 << 20, stream)
                event.record(stream)
                event.hold(other)
                cuda.download(result.pointer, device.pointer, 1 << 20, other)
                other.synchronize()
                assert (result.array == value).all()

    def test_time_between_events(self, cuda: Cuda, stream):
        with cuda.event(timing=True) as first, cuda.event(timing=True) as last, cuda.event() as untimed:
            for event in (first, untimed, last):
                event.record(stream)
            stream.synchronize()
            assert 0 <= last.elapsed_ms(first) < 1000
            with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_HANDLE"):
                last.elapsed_ms(untimed)

    def test_mapped_memory(self, cuda: Cuda, stream):
        with cuda.host_buffer(256, mapped=True) as mapped, cuda.host_buffer(256) as result:
            mapped.array[:] = PATTERN
            assert mapped.device_pointer != 0
            cuda.download(result.pointer, mapped.device_pointer, 256, stream)
            stream.synchronize()
            np.testing.assert_array_equal(result.array, PATTERN)

    def test_graph(self, cuda: Cuda, stream):
        with cuda.host_buffer(256) as source, cuda.host_buffer(256) as result, cuda.device_buffer(256) as device:
            result.array[:] = 0

            def enqueue() -> None:
                cuda.upload(device.pointer, source.pointer, 256, stream)
                cuda.download(result.pointer, device.pointer, 256, stream)

            with cuda.capture(stream, enqueue) as graph:
                stream.synchronize()
                assert not result.array.any(), "captured work was done"
                for value in (3, 4):
                    source.array[:] = value
                    graph.launch(stream)
                    stream.synchronize()
                    assert (result.array == value).all()

    def test_graph_that_fails(self, cuda: Cuda, stream):
        def stumble() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cuda.capture(stream, stumble)
        with pytest.raises(CudaError, match="CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            cuda.capture(stream, stream.synchronize)
        self.test_copies_are_done_when_the_wait_is_over(cuda, stream)

    def test_more_memory_than_there_is(self, cuda: Cuda, stream):
        for allocate in (cuda.device_buffer, cuda.host_buffer):
            with pytest.raises(
                CudaError, match=r"^\w+ failed with CUDA_ERROR_OUT_OF_MEMORY: the GPU's memory is full[^\n]*$"
            ) as caught:
                allocate(1 << 50)
            assert not caught.value.lost
        with pytest.raises(CudaError, match="CUDA_ERROR_INVALID_VALUE"):
            cuda.device_buffer(0)
        self.test_copies_are_done_when_the_wait_is_over(cuda, stream)

    def test_closing_in_any_order_and_twice(self, cuda: Cuda):
        stream, event, host, device = cuda.stream(), cuda.event(), cuda.host_buffer(64), cuda.device_buffer(64)
        cuda.upload(device.pointer, host.pointer, 64, stream)
        event.record(stream)
        for resource in (stream, host, event, device, host, stream, device, event):
            resource.close()
        cuda.host_buffer(64).array[:] = 1
        cuda.stream(), cuda.event(), cuda.device_buffer(64)  # left to its close
        cuda.close()
        cuda.close()
