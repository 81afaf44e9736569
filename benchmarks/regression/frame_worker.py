"""Stand-alone script: measure one revision of ``runtime`` in a process of its own, block by block.

The first line of stdin is a JSON object: ``root`` (folder that holds the revision's ``runtime``), ``paths`` (folders of
libraries), ``cores``, ``engine``, ``threads``, ``picture`` (.npy, (H, W, 3) uint8 BGR) and ``box`` (4 numbers). The
answer is ``{"ready": first times}`` or ``{"error": reason}``. Every further line is a number of frames; the answer is
the microseconds of each by stage. Run it with ``python -I -S``: then nothing but ``root`` and ``paths`` decides about
imports. It uses only the parts of ``runtime`` that every revision has had from early on.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UP_S = 0.3
UNCOUNTED = 2  # frames at the start of a block, in which the caches forget the other process
STAGES = ("crop", "network", "decode", "frame")


def main() -> None:
    """Answer on the original stdout; the output of libraries goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        runner, measure = open_revision(json.loads(sys.stdin.readline()))
    except Exception as error:  # an old revision may fail in any way; the other side says that it did
        reason = (str(error).splitlines() or [""])[0]
        name = type(error).__name__
        print(json.dumps({"error": f"{name}: {reason}" if reason else name}), file=answers)
        return
    with runner:
        print(json.dumps({"ready": measure(5)}), file=answers)
        for line in sys.stdin:
            print(json.dumps(measure(int(line))), file=answers)


def import_revision(settings: dict[str, Any]) -> None:
    """Make ``runtime`` mean the revision's."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, settings["cores"])  # before libraries count cores and start threads
    sys.path += settings["paths"]
    sys.path.insert(0, settings["root"])
    import runtime

    if os.path.dirname(os.path.abspath(runtime.__path__[0])) != os.path.abspath(settings["root"]):
        raise ImportError(f"runtime was imported from {runtime.__path__[0]}")


def open_revision(settings: dict[str, Any]) -> tuple[Any, Callable[[int], dict[str, list[float]]]]:
    """Return the revision's runner and ``measure(frames)``, with everything opened and warmed up."""
    import_revision(settings)
    import numpy as np

    runner, frame = _open_frame(settings)

    def measure(frames: int) -> dict[str, list[float]]:
        gc.collect()
        gc.disable()
        try:
            for _ in range(UNCOUNTED):
                frame()
            times = np.array([frame() for _ in range(frames)])
        finally:
            gc.enable()
        microseconds = np.diff(times, axis=1) / 1000
        return {name: column.tolist() for name, column in zip(STAGES, microseconds.T, strict=True)}

    until = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < until:
        frame()
    return runner, measure


def _open_frame(settings: dict[str, Any]) -> tuple[Any, Callable[[], tuple[int, ...]]]:
    """Return the runner and a function for one frame; it returns clock readings (ns) around the stages."""
    # The public parts of the revision.
    import cv2
    import numpy as np

    from runtime import Decoder, FaceMeshPipeline, load_topology, open_runner

    try:
        from runtime import crop_into, crop_matrix
    except ImportError:  # revisions before these two were public
        from runtime.crop import crop_into, crop_matrix

    # Everything that is opened once.
    cv2.setNumThreads(len(settings["cores"]))
    image = np.load(settings["picture"])
    box = np.array(settings["box"], np.float32)
    runner = open_runner(settings["engine"], max_batch=1, threads=settings["threads"])
    spec = runner.spec
    decode = Decoder(load_topology(spec.topology), spec)
    pipeline = FaceMeshPipeline(runner)
    clock = time.perf_counter_ns

    def frame() -> tuple[int, ...]:
        start = clock()
        matrix = crop_matrix(box, spec.crop_scale, spec.input.size)
        crop_into(image, matrix, spec.input, runner.input[0])
        cropped = clock()
        output = runner.infer(1)
        inferred = clock()
        decode(output[0], matrix)
        decoded = clock()
        pipeline.from_boxes(image, box[None])
        return start, cropped, inferred, decoded, clock()

    return runner, frame


if __name__ == "__main__":
    main()
