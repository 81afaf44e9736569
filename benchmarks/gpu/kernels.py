"""Parts of `benchmarks.gpu.gpu_report`: the kernels by themselves, and what launching them costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from benchmarks.gpu.clocks import Effort, Row, clock, row, series, wall
from benchmarks.gpu.scene import HEIGHT, NO_KERNELS, WIDTH, Bench, LeftOut, face_map, face_matrices, frame_720p
from runtime.cuda.interface import Event
from runtime.families.table import open_family
from runtime.models.shipped import SHIPPED_MODEL
from runtime.models.spec import load_spec

BATCHES = (1, 4, 16)
REPEATS = 20  # of a kernel between two events, which tell no less than about half a microsecond


def kernels(effort: Effort) -> Iterator[Row]:
    """Crop and decode: the mean of REPEATS of them in a row, by a graph where one can be made."""
    with Bench() as bench:
        for name, launch in _SharedBuffers(bench).variants().items():
            repeat = _repeated(bench, launch)
            yield row(name, series(bench.timed(repeat), effort) / REPEATS, repeats=REPEATS)


def launches(effort: Effort) -> Iterator[Row]:
    """What the host pays to hand over crop and decode, and the way there and back of the least kernel, by both ways of waiting."""
    with Bench() as bench:
        variants = _SharedBuffers(bench).variants()
        crop, decode, least = (variants[name] for name in ("crop, 1 face", "decode, vertices, 1 face", "decode, landmarks, 1 face"))
        graph = bench.graph(lambda: (crop(), decode()))
        blocking = bench.cuda.event(blocking=True)

        def handed_over(call: Callable[[], object]) -> Callable[[], float]:
            def sample() -> float:
                start = clock()
                call()
                taken = clock() - start
                bench.stream.synchronize()
                return taken / 1e6

            return sample

        def there_and_back(event: Event) -> Callable[[], float]:
            return wall(lambda: (least(), event.record(bench.stream), event.synchronize()))

        yield row("host: launched one by one", series(handed_over(lambda: (crop(), decode())), effort))
        if graph is not None:
            yield row("host: launched as a graph", series(handed_over(lambda: graph.launch(bench.stream)), effort))
        yield row("there and back, spinning", series(there_and_back(bench.last), effort))
        yield row("there and back, blocking", series(there_and_back(blocking), effort))


def _repeated(bench: Bench, launch: Callable[[], object]) -> Callable[[], object]:
    """The same work REPEATS times."""

    def all_of_it() -> None:
        for _ in range(REPEATS):
            launch()

    graph = bench.graph(all_of_it)
    return all_of_it if graph is None else lambda: graph.launch(bench.stream)


class _SharedBuffers:
    """All that crop and decode need, in device memory: a frame, matrices, and a position map that could be a network's."""

    def __init__(self, bench: Bench) -> None:
        if bench.cuda.kernels is None:
            raise LeftOut(NO_KERNELS)
        self._bench = bench
        self._spec = load_spec(SHIPPED_MODEL)
        most = BATCHES[-1]
        family = open_family(self._spec)
        maps = np.stack([face_map(self._spec)] * most)
        self._frame = bench.uploaded(frame_720p())
        self._matrices = bench.uploaded(np.array(face_matrices(most, self._spec)))
        self._maps = {False: bench.uploaded(maps), True: bench.uploaded(maps.astype(np.float16))}  # by half precision
        self._decoders = {
            (half, dense): family.gpu_decoder(bench.cuda, half, dense) for half, dense in product((False, True), repeat=2)
        }
        self._crops = bench.cuda.device_buffer(most * 3 * 4 * self._spec.input.size**2).pointer
        points = self._decoders[False, True].point_count
        self._result = bench.cuda.device_buffer(most * points * 12).pointer

    def variants(self) -> dict[str, Callable[[], None]]:
        found: dict[str, Callable[[], None]] = {}
        for n in BATCHES:
            faces = f"{n} face{'s' * (n > 1)}"
            found[f"crop, {faces}"] = lambda n=n: self._crop(n, half=False)
            found[f"crop to half, {faces}"] = lambda n=n: self._crop(n, half=True)
            found[f"decode, vertices, {faces}"] = lambda n=n: self._decode(n, half=False)
            found[f"decode half, vertices, {faces}"] = lambda n=n: self._decode(n, half=True)
            found[f"decode, landmarks, {faces}"] = lambda n=n: self._decode(n, half=False, dense=False)
        return found

    def _crop(self, n: int, half: bool) -> None:
        given = self._spec.input
        low, high = given.value_range
        self._bench.cuda.kernels.crop(
            frame=self._frame,
            height=HEIGHT,
            width=WIDTH,
            row_stride=3 * WIDTH,
            matrices=self._matrices,
            n=n,
            out=self._crops,
            size=given.size,
            channels_last=given.layout == "NHWC",
            swap_colours=given.colour_order == "RGB",
            low=low,
            high=high,
            half=half,
            stream=self._bench.stream.handle,
        )

    def _decode(self, n: int, half: bool, dense: bool = True) -> None:
        decoder = self._decoders[half, dense]
        decoder.enqueue(self._maps[half], self._matrices, n, self._result, self._bench.stream)
