"""``python -m runtime.swap``."""

from __future__ import annotations

import os
import re

import cv2
import numpy as np
import pytest

from runtime.swap import main

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture(scope="module")
def reference(portrait, tmp_path_factory):
    """The portrait turned, with a dark stripe over the nose."""
    image = cv2.imread(str(portrait))
    cv2.line(image, (195, 100), (250, 100), (40, 30, 20), 8)
    matrix = cv2.getRotationMatrix2D((220, 110), -15, 1)
    path = tmp_path_factory.mktemp("swap") / "reference.jpg"
    cv2.imwrite(str(path), cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT))
    return path


@pytest.mark.parametrize("part", ["face", "mouth"])
def test_a_photo_comes_out(portrait, reference, tmp_path, capsys, part):
    out = tmp_path / "new" / "swapped.png"
    assert main(["--source", str(portrait), "--reference", str(reference), "--part", part, "--output", str(out)]) == 0
    assert capsys.readouterr().out == f"{part} of {reference} on {portrait}; result in {out}\n"
    before, after = cv2.imread(str(portrait)).astype(int), cv2.imread(str(out)).astype(int)
    assert after.shape == before.shape
    change = np.abs(after - before).sum(axis=2)
    assert (change[96:104, 205:240].mean() > 60) == (part == "face")  # the stripe
    assert change[250:].max() == 0
    assert os.listdir(out.parent) == ["swapped.png"]


def test_jpeg(portrait, reference, tmp_path):
    out = tmp_path / "swapped.jpg"
    assert main(["--source", str(portrait), "--reference", str(reference), "--output", str(out)]) == 0
    assert out.read_bytes().startswith(b"\xff\xd8")


def test_photos_without_a_face_and_missing_ones(portrait, tmp_path, capsys):
    empty, gone, out = tmp_path / "empty.png", tmp_path / "gone.jpg", tmp_path / "out.png"
    cv2.imwrite(str(empty), np.full((200, 200, 3), 127, np.uint8))
    for source, reference, at_fault in ((portrait, empty, empty), (empty, portrait, empty), (portrait, gone, gone)):
        assert main(["--source", str(source), "--reference", str(reference), "--output", str(out)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {at_fault}: ")
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "out.gif"], "--output out.gif: the suffix must be one of .jpg .jpeg .png"),
        (["--part", "ears"], "invalid choice: 'ears'"),
        (["--output", ""], "is empty"),
    ],
)
def test_wrong_usage(capsys, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["--source", "a.jpg", "--reference", "b.jpg", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_an_output_that_cannot_be_written(portrait, reference, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "deeper" / "out.png"
    assert main(["--source", str(portrait), "--reference", str(reference), "--output", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "choose another --output" in line


def test_a_face_that_is_half_hidden(portrait, shared_data, tmp_path, capsys):
    profile = shared_data / "photos" / "profile.jpg"
    for source, reference in ((portrait, profile), (profile, portrait)):
        arguments = ["--source", str(source), "--reference", str(reference), "--output", str(tmp_path / "x.jpg")]
        assert main(arguments) == 1
        assert re.search(r"profile\.jpg: the face is turned by \d\d°, half of it is hidden", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
