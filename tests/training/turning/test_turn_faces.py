"""The command: a set that training reads, the same for every number of workers, whole or not at all."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.families.face_model import load_face_model
from tests.training.toy import coordinate_pictures, toy_face_model, toy_labels, write_toy_set
from training.__main__ import main
from training.data.labels import load_labels, read_images


@pytest.fixture
def photographs(tmp_path) -> Path:
    """A set of 9 labelled photographs with its face model; returns the common stem."""
    labels = toy_labels(toy_face_model(), 9)
    return write_toy_set(tmp_path, labels, coordinate_pictures(labels), fit_nme=np.arange(9, dtype=np.float32))


def turn_faces(photographs: Path, output: Path, *options: str) -> int:
    return main(
        [
            "turn-faces",
            "--data",
            str(photographs),
            "-o",
            str(output),
            "--sources",
            "left,right",
            "--count",
            "30",
            *options,
        ]
    )


def files_of(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir() if not path.name.startswith(("toy", "face_model")))


def test_training_reads_the_set(photographs, tmp_path, capsys):
    assert turn_faces(photographs, tmp_path / "turned") == 0
    model = load_face_model(tmp_path / "face_model.npz")
    labels, sources = load_labels(tmp_path / "turned", model), load_labels(photographs, model)
    assert len(labels) == 30
    points = (
        labels.scale[:, None, None] * model.landmarks(labels.coefficients) @ labels.rotation.transpose(0, 2, 1)
        + labels.translation[:, None]
    )
    np.testing.assert_allclose(points, labels.pts68, atol=1e-3)
    np.testing.assert_allclose(labels.box[:, :2], labels.pts68[..., :2].min(axis=1))
    assert np.isnan(labels.hand68).all()
    assert set(labels.source.tolist()) == {"turned_left", "turned_right"}
    assert len(set(labels.names.tolist())) == 30
    with tarfile.open(tmp_path / "turned.tar") as archive:
        assert archive.getnames() == labels.names.tolist()
    images = read_images(tmp_path / "turned", labels)
    assert all(images[row].shape == (160, 160, 3) for row in range(30))
    assert "30 copies of 9 photographs" in capsys.readouterr().out
    # Validation flag, coefficients and residual are the photograph's, the yaw is larger.
    number = np.array([int(Path(name).stem.split("_")[0]) for name in labels.names])
    np.testing.assert_array_equal(labels.is_val, sources.is_val[number])
    np.testing.assert_array_equal(labels.coefficients, sources.coefficients[number])
    np.testing.assert_array_equal(np.load(tmp_path / "turned.npz")["fit_nme"], number)
    azimuth, before = (np.arctan2(item.rotation[:, 0, 2], item.rotation[:, 2, 2]) for item in (labels, sources))
    assert (np.abs(azimuth) > np.abs(before[number])).all()
    assert (np.sign(azimuth) == np.sign(before[number])).all()


def test_workers_do_not_change_the_set(photographs, tmp_path):
    for name, workers in (("one", "1"), ("two", "2")):
        assert (
            turn_faces(photographs, tmp_path / name, "--workers", workers, "--sheet", str(tmp_path / f"{name}.png"))
            == 0
        )
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    for key in one.files:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def test_contact_sheet_shows_copies_beside_their_labels(photographs, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert turn_faces(photographs, tmp_path / "turned", "--sheet", str(sheet)) == 0
    image = cv2.imread(str(sheet)).astype(int)
    tile = image.shape[1] // 8
    plain, labelled = image[:tile, :tile], image[:tile, tile : 2 * tile]
    changed = (np.abs(plain - labelled).max(axis=2) > 60).mean()
    assert 0.005 < changed < 0.3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--sources", "left,middle"), "has no source 'middle'; its sources are left, right"),
        (("--yaw", "1-2"), "no photograph can be turned on"),
        (("--face-model", "nowhere.npz"), "nowhere.npz: no such file"),
        (("--sheet", "no/such/folder/sheet.png"), "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(photographs, tmp_path, capsys, options, text):
    assert turn_faces(photographs, tmp_path / "turned", *options) == 1
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert files_of(tmp_path / "turned") == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_damaged_photograph_leaves_nothing(photographs, tmp_path, capsys, workers):
    with tarfile.open(tmp_path / "toy.tar") as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(tmp_path / "toy.tar", "w") as archive:
        for number, (member, data) in enumerate(members):
            data = bytes(len(data)) if number == 8 else data
            archive.addfile(member, io.BytesIO(data))
    (tmp_path / "turned.npz").write_bytes(b"earlier")
    assert turn_faces(photographs, tmp_path / "turned", "--workers", workers) == 1
    error = capsys.readouterr().err
    assert "8.jpg: damaged" in error
    assert error.count("\n") == 1
    assert files_of(tmp_path / "turned") == ["turned.npz"]
    assert (tmp_path / "turned.npz").read_bytes() == b"earlier"


@pytest.mark.slow
def test_workers_end_with_a_killed_command(photographs, tmp_path, repository):
    """The output pipe closes when the last process that holds it has ended."""
    paths = ["--data", str(photographs), "-o", str(tmp_path / "turned")]
    options = ["--sources", "left,right", "--count", "200000", "--workers", "2"]
    command = [sys.executable, "-m", "training", "turn-faces", *paths, *options]
    with subprocess.Popen(command, cwd=repository, stdout=subprocess.PIPE) as process:
        part = tmp_path / "turned.tar.part"
        while process.poll() is None and not part.exists():
            time.sleep(0.05)
        time.sleep(2)  # the workers start
        process.kill()
        assert process.communicate(timeout=120)[0] == b""


def test_output_in_the_repository_is_refused(photographs, repository, capsys):
    if not (repository / ".git").exists():
        pytest.skip("needs a checkout")
    assert turn_faces(photographs, repository / "turned") == 1
    assert "licences" in capsys.readouterr().err
    assert not list(repository.glob("turned*"))


def test_output_over_the_photographs_is_refused(photographs, capsys):
    before = photographs.with_name("toy.npz").read_bytes()
    assert turn_faces(photographs, photographs) == 1
    assert "is the set to read" in capsys.readouterr().err
    assert photographs.with_name("toy.npz").read_bytes() == before
