"""Descriptions of a network's input and output tensors, as a model's spec holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InputSpec:
    """The image tensor: float32, square, batch first."""

    name: str
    size: int  # side in px
    layout: str  # "NCHW" or "NHWC"; an output of three channels has the same layout
    colour_order: str  # "RGB" or "BGR"
    value_range: tuple[float, float]  # values of uint8 0 and 255
    # A fourth plane, of "NCHW" alone: -1, and 1 at landmarks that are known before the network runs
    landmark_channel: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, without the batch."""
        return (4, self.size, self.size) if self.landmark_channel else image_shape(self.layout, self.size)


@dataclass(frozen=True)
class OutputSpec:
    """The output tensor: float32, batch first. Every family of networks has a subclass with more fields."""

    name: str

    def shape(self, layout: str) -> tuple[int, ...]:
        """Return the shape of one face's output, without the batch, for an input of ``layout``."""
        raise TypeError(f"{type(self).__name__} does not say its shape")

    def fitted(self, name: str, shape: tuple[int, ...], layout: str) -> OutputSpec:
        """Return a copy for a model's tensor ``name`` of ``shape`` (without the batch; 0: free).

        Raises `ValueError` if this family cannot have such an output.
        """
        raise TypeError(f"{type(self).__name__} does not say which shapes it may have")

    def describe(self) -> str:
        """Return the meaning of the numbers in a few words."""
        return ""


def image_shape(layout: str, side: int) -> tuple[int, int, int]:
    """Return the shape of a square tensor of three channels: (3, S, S) for "NCHW", (S, S, 3) for "NHWC"."""
    return (side, side, 3) if layout == "NHWC" else (3, side, side)
