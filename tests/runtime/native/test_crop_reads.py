"""Crops on the CPU read no byte beside their frame, whose first and last bytes touch forbidden pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

READS = """
import ctypes, mmap
import numpy as np
from runtime.geometry.crop import crop_into
from runtime.tensors import InputSpec

libc, page = ctypes.CDLL(None), mmap.PAGESIZE
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
forms = [InputSpec("image", size, layout, "RGB", (0.0, 1.0)) for size in (7, 96) for layout in ("NCHW", "NHWC")]
for height, width, stride in ((4, page, 3 * page), (4, 5, 15), (8, 7, 21), (1, 4, 12), (4, 3, 11), (90, 70, 211)):
    nbytes = (height - 1) * stride + 3 * width
    pages = -(-nbytes // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(start, page, 0) == libc.mprotect(start + (pages + 1) * page, page, 0) == 0
    for first in (page, (pages + 1) * page - nbytes):
        frame = np.ndarray((height, width, 3), np.uint8, memory, first, (stride, 3, 1))
        frame[:] = 200
        for scale in (0.13, 0.3, 0.5, 1.0, 3.0):
            for shear in (0.0, 0.2 * scale):
                for corner in ((0.2, 0.3), (90 - scale * width, 90 - scale * height)):
                    matrix = np.array([[scale, -shear, corner[0]], [shear, scale, corner[1]]])
                    for form in forms:
                        out = np.empty(form.shape, np.float32)
                        crop_into(frame, matrix, form, out)
                        assert 0 <= out.min() <= out.max() <= 0.8
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_a_crop_reads_the_frame_alone():
    """A byte too far would be the process's end."""
    run = subprocess.run([sys.executable, "-c", READS], capture_output=True, text=True, timeout=600)
    assert (run.returncode, run.stdout.strip()) == (0, "done"), run.stderr
