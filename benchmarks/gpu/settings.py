"""Ways to run frames in `benchmarks.gpu.frames`: the picture, its faces, memory, waits and rests."""

from __future__ import annotations

from dataclasses import dataclass, replace

SMALL_FACES = (150.0, 250.0)  # px, of a picture of 720p
REST_S = 0.033  # between two frames of a camera


@dataclass(frozen=True)
class Setting:
    """One way to run frames; with ``memory`` None the runtime chooses for the device."""

    faces: int = 1
    dense: bool = True
    sync: str = "spin"
    memory: str | None = None
    graph: bool = True
    transfers: bool = True
    in_place: bool = False  # the frame lies in the mesher's own memory, so that the host copies nothing
    height: int = 720
    width: int = 1280
    sides: tuple[float, float] = SMALL_FACES  # least and largest box, px
    rest_s: float = 0.0  # before every frame: clocks fall, caches cool
    turns: tuple[int, ...] = ()  # numbers of faces, one frame after the other; ``faces`` is the largest

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of faces of the frames in turn."""
        return self.turns or (self.faces,)


FULL_HD = Setting(height=1080, width=1920)
ULTRA_HD = Setting(height=2160, width=3840)
SETTINGS = {
    "whole frame": Setting(),
    "without graph": Setting(graph=False),
    "without transfers": Setting(memory="copy", transfers=False),
    "frame in place": Setting(in_place=True),
    "copied memory": Setting(memory="copy"),
    "mapped memory": Setting(memory="mapped"),
    "mapped memory, frame in place": Setting(memory="mapped", in_place=True),
    "blocking wait": Setting(sync="block"),
    "after 33 ms of rest": Setting(rest_s=REST_S),
    "blocking wait, after 33 ms of rest": Setting(sync="block", rest_s=REST_S),
    "close-up": Setting(sides=(600.0, 640.0)),
    "1080p": FULL_HD,
    "1080p, close-up": replace(FULL_HD, sides=(700.0, 800.0)),
    "1080p, close-up, mapped memory": replace(FULL_HD, sides=(700.0, 800.0), memory="mapped"),
    "4K": ULTRA_HD,
    "4K, close-up": replace(ULTRA_HD, sides=(1400.0, 1600.0)),
    "68 landmarks alone": Setting(dense=False),
    "4 faces": Setting(faces=4),
    "16 faces": Setting(faces=16),
    "1, 3, 1, 5, 2 faces in turn": Setting(faces=5, turns=(1, 3, 1, 5, 2)),
}
QUICK_SETTINGS = (
    *("whole frame", "without graph", "frame in place", "after 33 ms of rest", "close-up", "4K"),
    *("4 faces", "1, 3, 1, 5, 2 faces in turn"),
)
