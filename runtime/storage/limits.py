"""Bounds on what files may claim. Every one is an environment variable, so that it can be raised without a new build.

A reader compares the claims of a file with the bytes that it holds and with these bounds, before it allocates anything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from runtime.errors import FaceMeshError


@dataclass(frozen=True)
class Limit:
    """A bound with its environment variable; ``value`` is read at every use."""

    variable: str
    default: int
    unit: str

    @property
    def value(self) -> int:
        """Return the bound; raises `FaceMeshError` if the variable holds no whole number from 1 on."""
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and len(text) <= 18 and int(text) > 0):
            raise FaceMeshError(f"{self.variable} must be a whole number from 1 on, is {text[:200]!r}; correct it")
        return int(text)

    def excess(self, found: int) -> str | None:
        """Return a phrase that says by which bound ``found`` is too much, None if it is not."""
        if found <= self.value:
            return None
        return f"{_text(found)} {self.unit}, the limit is {self.value:,} (raise it with {self.variable})"


def _text(number: int) -> str:
    return f"{number:,}" if number < 10**18 else "over 10^18"


# The largest phone cameras make 16,320 x 12,240 px.
PIXELS = Limit("FACEMESH_MAX_PIXELS", 200_000_000, "pixels in one picture")
# Of pictures over 25 million pixels; a JPEG of a blank wall has 300.
PIXELS_PER_BYTE = Limit("FACEMESH_MAX_PIXELS_PER_BYTE", 2048, "pixels for each of its bytes")
# Of a film: those of 8K have 35 million, and a decoder holds a dozen frames at once.
FRAME_PIXELS = Limit("FACEMESH_MAX_FRAME_PIXELS", 40_000_000, "pixels in one frame")
# Each goes over all pixels; progressive files have some ten.
SCANS = Limit("FACEMESH_MAX_SCANS", 100, "scans in one JPEG file")
# Of any file that is read whole; of everything that is unpacked from one.
FILE_BYTES = Limit("FACEMESH_MAX_FILE_BYTES", 4 << 30, "bytes in one file")
# Specs and manifests have some hundred bytes, records up to a megabyte; a byte of JSON becomes up to 40 in memory.
JSON_BYTES = Limit("FACEMESH_MAX_JSON_BYTES", 8 << 20, "bytes in one JSON file")
DOCUMENT_BYTES = Limit("FACEMESH_MAX_DOCUMENT_BYTES", 64 << 20, "bytes in one CSV file or index")
DEPTH = Limit("FACEMESH_MAX_DEPTH", 64, "levels of nesting")
DIGITS = Limit("FACEMESH_MAX_DIGITS", 64, "digits in one number")
# Arrays of faces shrink to a half by compression, masks to a fiftieth.
EXPANSION = Limit("FACEMESH_MAX_EXPANSION", 100, "times the compressed size")
MEMBERS = Limit("FACEMESH_MAX_MEMBERS", 1_000_000, "members in one archive or index")
NAME_BYTES = Limit("FACEMESH_MAX_NAME_BYTES", 4096, "bytes in one name")
# Faces of one run of a model file with a fixed batch: buffers are allocated for all of them.
BATCH = Limit("FACEMESH_MAX_BATCH", 256, "faces in one batch")

SMALL_BYTES = 64 << 20  # anything may unpack to so much, whatever its compressed size

ALL = (
    *(PIXELS, PIXELS_PER_BYTE, FRAME_PIXELS, SCANS, FILE_BYTES, JSON_BYTES, DOCUMENT_BYTES, DEPTH, DIGITS, EXPANSION),
    *(MEMBERS, NAME_BYTES, BATCH),
)


def unpacked_bytes(packed: int) -> int:
    """Return the bytes that ``packed`` compressed bytes may unpack to."""
    return min(FILE_BYTES.value, max(SMALL_BYTES, EXPANSION.value * packed))
