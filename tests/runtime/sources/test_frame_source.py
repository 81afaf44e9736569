"""Reading photos, folders and videos: what people really have, and what is broken."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from runtime.errors import FaceMeshError
from runtime.sources.frame_source import FrameSource
from runtime.sources.photos import read_photo


def picture(height=40, width=60):
    """Four quarters of different colour, BGR."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 30, 20)
    image[: height // 2, width // 2 :] = (20, 200, 30)
    image[height // 2 :, : width // 2] = (30, 20, 200)
    image[height // 2 :, width // 2 :] = (180, 180, 180)
    return image


def noise(height=300, width=400):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image)[1].tobytes()


def with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """``jpeg`` with an EXIF orientation and, behind it, bytes that stand for an embedded preview."""
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x0112, 3, 1, orientation) + struct.pack("<I", 0)
    body = b"Exif\0\0" + tiff + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def write(path, data):
    path.write_bytes(data)
    return path


def read_all(uri, **options):
    with FrameSource(uri, **options) as source:
        return list(source)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm", ".jp2"])
def test_formats(tmp_path, suffix):
    frames = read_all(write(tmp_path / f"a{suffix}", encoded(picture(), suffix)))
    assert len(frames) == 1
    assert (frames[0].index, frames[0].timestamp_s, frames[0].source) == (0, 0.0, str(tmp_path / f"a{suffix}"))
    assert np.abs(frames[0].image.astype(int) - picture()).mean() < 3  # WebP is lossy


def test_suffix_does_not_matter_for_one_photo(tmp_path):
    assert read_all(write(tmp_path / "upload", encoded(picture())))[0].image.shape == (40, 60, 3)


def test_a_photo_named_by_a_text(tmp_path):
    assert read_photo(str(write(tmp_path / "a.png", encoded(picture())))).shape == (40, 60, 3)


def test_grey(tmp_path):
    grey = cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(
        read_photo(write(tmp_path / "a.png", encoded(grey))), np.repeat(grey[..., None], 3, axis=2)
    )


def test_transparency_is_dropped(tmp_path):
    rgba = np.dstack([picture(), np.full((40, 60), 128, np.uint8)])
    np.testing.assert_array_equal(read_photo(write(tmp_path / "a.png", encoded(rgba))), picture())


@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3), (40, 60, 4)])
def test_16_bit(tmp_path, shape):
    deep = np.broadcast_to((np.arange(60) * 1000 + 77).astype(np.uint16).reshape(1, 60, *[1] * (len(shape) - 2)), shape)
    image = read_photo(write(tmp_path / "a.png", encoded(np.ascontiguousarray(deep))))
    assert (image.shape, image.dtype) == ((40, 60, 3), np.uint8)
    assert np.abs(image[0, :, 0].astype(int) - (np.arange(60) * 1000 + 77) // 256).max() <= 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".jp2"])
def test_16_bit_holds_values_of_a_camera_with_fewer_bits(tmp_path, suffix, bits):
    deep = (picture().astype(np.float64) / 255 * (2**bits - 1)).round().astype(np.uint16)
    deep[0, 0] = 2**bits - 1
    read = read_photo(write(tmp_path / f"a{suffix}", encoded(deep, suffix)))
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read[1:, 1:].astype(int), picture()[1:, 1:], atol=1)


@pytest.mark.parametrize(("brightest", "full_scale"), [(1023, 1023), (1024, 4095), (2768, 4095), (4096, 16383)])
def test_full_scale_is_the_smallest_that_holds_the_brightest_value(tmp_path, brightest, full_scale):
    grey = np.linspace(0, brightest, 48 * 60).round().astype(np.uint16).reshape(48, 60)
    read = read_photo(write(tmp_path / "a.png", encoded(grey)))
    np.testing.assert_allclose(read[..., 0], grey * (255 / full_scale), atol=0.51)


def test_16_bit_without_light(tmp_path):
    assert not read_photo(write(tmp_path / "a.png", encoded(np.zeros((40, 60), np.uint16)))).any()


def test_high_dynamic_range_is_clipped_at_1(tmp_path):
    image = np.full((40, 60, 3), 0.5, np.float32)
    image[:, 30:] = 3
    read = read_photo(write(tmp_path / "a.hdr", encoded(image, ".hdr")))
    np.testing.assert_allclose(read[0, [0, 59], 0], [128, 255], atol=2)


def test_one_pixel(tmp_path):
    np.testing.assert_array_equal(
        read_photo(write(tmp_path / "a.png", encoded(np.full((1, 1, 3), 7, np.uint8)))), [[[7, 7, 7]]]
    )


def test_20_megapixels(tmp_path):
    large = cv2.resize(noise(), (5477, 3652), interpolation=cv2.INTER_NEAREST)
    assert read_photo(write(tmp_path / "a.jpg", encoded(large, ".jpg"))).shape == (3652, 5477, 3)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.transpose(1, 0, 2)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda image: np.rot90(image)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, turn):
    jpeg = encoded(picture(48, 64), ".jpg")
    plain = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read_photo(write(tmp_path / "a.jpg", with_exif(jpeg, orientation))), turn(plain))


@pytest.mark.parametrize("quality", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_jpeg_that_is_cut_off(tmp_path, quality, share):
    data = cv2.imencode(".jpg", noise(), quality)[1].tobytes()
    assert read_photo(write(tmp_path / "whole.jpg", data)).shape == (300, 400, 3)
    with pytest.raises(
        FaceMeshError, match=r"cut\.jpg: the JPEG file is cut off before its end; copy or download it again"
    ):
        read_photo(write(tmp_path / "cut.jpg", data[: int(share * len(data))]))


def test_jpeg_that_is_cut_off_behind_a_whole_preview(tmp_path):
    data = with_exif(encoded(noise(), ".jpg"), 1, thumbnail=encoded(picture(), ".jpg"))
    assert read_photo(write(tmp_path / "whole.jpg", data)).shape == (300, 400, 3)
    with pytest.raises(FaceMeshError, match="cut off"):
        read_photo(write(tmp_path / "cut.jpg", data[: len(data) // 2]))


def test_jpeg_with_something_after_its_end(tmp_path):
    """Telephones append short videos and maps of depth."""
    assert read_photo(write(tmp_path / "a.jpg", encoded(noise(), ".jpg") + b"\0\0\0\x18ftypmp42" * 50)).shape == (
        300,
        400,
        3,
    )


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jp2", ".ppm"])
def test_other_formats_cut_off(tmp_path, suffix):
    data = encoded(noise(), suffix)
    with pytest.raises(FaceMeshError, match="damaged"):
        read_photo(write(tmp_path / f"a{suffix}", data[: len(data) // 2]))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jpg", b"", r"a\.jpg: the file is empty \(0 bytes\)"),
        ("a.jpg", b"not a picture", r"a\.jpg: damaged, or no photo"),
        ("a.jpg", b"\xff\xd8", "cut off"),
        ("a.txt", b"hello " * 1000, r"a\.txt: damaged, or no photo"),
        ("a.heic", b"\0\0\0\x18ftypheic" * 9, r"a\.heic: HEIC that OpenCV [\d.]+ cannot read; convert it to"),
        ("a.jpg", b"\0\0\0\x18ftypmif1" * 9, r"a\.jpg: HEIC that OpenCV"),
        ("a.AVIF", b"\0\0\0\x1cftypavif" * 9, r"a\.AVIF: AVIF that OpenCV"),
        ("a.jxl", b"\xff\x0a" + bytes(99), r"a\.jxl: JPEG XL that OpenCV"),
        ("a.gif", b"GIF89a", r"a\.gif: damaged, or cut off"),
        ("a.DNG", encoded(noise(), ".tif"), r"a\.DNG: a camera's raw file, which is not read; develop it"),
        ("a.nef", b"", r"a\.nef: the file is empty"),
        ("a.mp4", b"", r"a\.mp4: the file is empty"),
        ("a.mp4", b"not a video" * 1000, r"a\.mp4: cannot be opened as a video"),
    ],
)
def test_files_that_are_nothing(tmp_path, name, data, message):
    with pytest.raises(FaceMeshError, match=message):
        read_all(write(tmp_path / name, data))


@pytest.mark.parametrize("uri", ["nothing.jpg", "nothing.mp4", "nothing/"])
def test_missing(tmp_path, uri):
    with pytest.raises(FaceMeshError, match=r"nothing.*: no such file or folder"):
        read_all(tmp_path / uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [("camera:97", "no camera answers"), ("camera:front", "named by its number"), ("camera:", "named by")],
)
def test_camera_that_is_not_there(uri, message):
    with pytest.raises(FaceMeshError, match=message):
        read_all(uri)


def test_folder_is_flat_sorted_and_only_photos(tmp_path):
    for name in ("b.PNG", "a.png", "._a.png", "notes.txt", "clip.mp4"):
        write(tmp_path / name, encoded(picture()))
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "c.png", encoded(picture()))
    with FrameSource(tmp_path) as source:
        assert source.frame_count == 2
        assert [path.name for path in source.other_files] == ["clip.mp4", "notes.txt"]
        assert [frame.source for frame in source] == [str(tmp_path / "a.png"), str(tmp_path / "b.PNG")]


def test_folder_without_photos(tmp_path):
    write(tmp_path / "notes.txt", b"x")
    with pytest.raises(FaceMeshError, match="no photos in this folder"):
        read_all(tmp_path)


def test_every_picture_of_a_folder_is_read_or_named(tmp_path):
    for suffix in (".bmp", ".JPG", ".Png", ".tiff", ".webp", ".PGM"):
        image = picture() if suffix != ".PGM" else picture()[..., 0]
        write(tmp_path / f"sound{suffix}", encoded(image, suffix.lower()))
    for name in ("a.heic", "b.HEIF", "c.jxl", "d.avif", "e.gif", "f.cr2", "g.psd", "h.svg", "i.tif", "j.JPEG"):
        write(tmp_path / name, b"no picture at all")
    errors = []
    frames = read_all(tmp_path, on_error=errors.append)
    assert len(frames) == 6
    assert [str(error).partition(": ")[0][-6:] for error in errors] == [
        *("a.heic", "b.HEIF", "/c.jxl", "d.avif", "/e.gif", "/f.cr2", "/g.psd", "/h.svg", "/i.tif", "j.JPEG"),
    ]


def test_bad_photo_in_a_folder(tmp_path):
    for name in ("a.png", "c.png"):
        write(tmp_path / name, encoded(picture()))
    write(tmp_path / "b.png", b"")
    errors = []
    frames = read_all(tmp_path, on_error=errors.append)
    assert [frame.source[-5:] for frame in frames] == ["a.png", "c.png"]
    assert len(errors) == 1
    assert "b.png: the file is empty" in str(errors[0])
    with pytest.raises(FaceMeshError, match=r"b\.png"):
        read_all(tmp_path)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for number in range(7):
        writer.write(np.full((48, 64, 3), 30 * number, np.uint8))
    writer.release()
    return path


def test_video(video):
    with FrameSource(video) as source:
        assert (source.fps, source.frame_count, source.photos) == (10, 7, [])
        frames = list(source)
    assert [frame.index for frame in frames] == list(range(7))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], np.arange(7) / 10, atol=1e-6)
    means = [frame.image.mean() for frame in frames]  # every frame owns its pixels
    np.testing.assert_allclose(means, 30 * np.arange(7), atol=4)


def test_video_that_promises_more_frames_than_it_has(shared_data):
    with FrameSource(shared_data / "video" / "obama.mp4") as source:
        frames = sum(1 for _ in source)
        assert (frames, source.frame_count) == (55, 158)
