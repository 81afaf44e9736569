"""The command, as a person uses it and as it goes wrong: exit codes, one line per mistake, nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import onnx
import pytest

from runtime.inference.trt.network_stream import NetworkStream
from runtime.models.shipped import SHIPPED
from runtime.models.spec import ModelSpec
from runtime.run import main
from runtime.sources.photos import read_photo
from runtime.storage.folder_lock import FolderLock
from runtime.storage.whole_files import file_sha256


@pytest.fixture
def run(live_model, tmp_path, capfd):
    """``run("--source", …)`` -> (exit code, stdout, stderr); the model and --output tmp_path/out are filled in."""

    def call(*arguments, output=True, engine=True):
        arguments = [str(argument) for argument in arguments]
        arguments += ["--output", str(tmp_path / "out")] if output else []
        arguments += ["--engine", str(live_model)] if engine else []
        capfd.readouterr()
        try:
            code = main(arguments)
        except SystemExit as exit_of_argparse:
            code = exit_of_argparse.code
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def results(tmp_path):
    return lambda: [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]


def error_line(err):
    """The one line that stderr must be."""
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def outputs(tmp_path):
    return {path.name for path in (tmp_path / "out").iterdir()}


def make_folder(path, portrait, count):
    path.mkdir()
    small = cv2.resize(read_photo(portrait), (128, 128), interpolation=cv2.INTER_AREA)
    for number in range(count):
        cv2.imwrite(str(path / f"{number:03d}.png"), small)
    return path


def make_video(path, image, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, image.shape[1::-1])
    for _ in range(frames):
        writer.write(image)
    writer.release()
    return path


def test_photo(run, results, tmp_path, portrait):
    code, out, err = run("--source", portrait, "--save", "overlay,json,obj,ply,npz")
    assert (code, err) == (0, "")
    assert out.startswith("1 picture, 1 face, ")
    assert out.endswith(f"ms per face in fp32, detection included; results in {tmp_path / 'out'}\n")
    assert outputs(tmp_path) == {
        "results.jsonl",
        "astronaut_overlay.jpg",
        *(f"astronaut_face0.{suffix}" for suffix in ("obj", "ply", "npz")),
    }
    (line,) = results()
    assert (line["source"], line["size_wh"], line["faces"][0]["mesh"]) == (
        str(portrait),
        [512, 512],
        "astronaut_face0.obj",
    )
    assert len(line["faces"][0]["landmarks"]) == 68


def test_confidence_of_faces_and_unsure_ones_left_out(run, results, tmp_path, sure_model):
    for name, blue in (("dark", 20), ("bright", 230)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((128, 128, 3), (blue, 90, 90), np.uint8))
    source = ("--source", tmp_path, "--detector", "none", "--save", "overlay,json,ply", "--engine", sure_model)
    code, out, err = run(*source, engine=False)
    assert (code, err) == (0, "")
    assert out.startswith("2 pictures, 2 faces, ")
    assert [line["faces"][0]["confidence"] for line in results()] == pytest.approx([230 / 255, 20 / 255], abs=0.02)
    shutil.rmtree(tmp_path / "out")
    code, out, err = run(*source, "--min-confidence", "0.5", engine=False)
    assert (code, err) == (0, "")
    assert re.match(r"2 pictures, 1 face, 1 more below --min-confidence, [\d.]+ ms per face", out)
    assert [len(line["faces"]) for line in results()] == [1, 0]
    assert outputs(tmp_path) == {"results.jsonl", "bright_overlay.jpg", "dark_overlay.jpg", "bright_face0.ply"}


def test_least_confidence_needs_a_model_that_tells_it(run, tmp_path, portrait):
    code, out, err = run("--source", portrait, "--min-confidence", "0.5")
    assert (code, out) == (1, "")
    assert "min_confidence (--min-confidence) needs a model that tells its confidence, test does not" in error_line(err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["1.2", "-1", "nan", "many", ""])
def test_least_confidence_that_is_none(run, tmp_path, portrait, value):
    code, _, err = run("--source", portrait, f"--min-confidence={value}")
    assert code == 2
    assert "argument --min-confidence: " in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_default_is_overlay_and_json(run, tmp_path, portrait):
    assert run("--source", portrait)[0] == 0
    assert outputs(tmp_path) == {"results.jsonl", "astronaut_overlay.jpg"}


@pytest.mark.parametrize("precision", SHIPPED)
def test_shipped_model_needs_no_engine(run, results, portrait, precision):
    code, out, err = run("--source", portrait, "--precision", precision, engine=False)
    assert (code, err) == (0, "")
    assert f"ms per face in {precision}, detection included" in out
    assert len(results()[0]["faces"]) == 1


@pytest.mark.parametrize(("byte_products", "precision"), [(True, "int8"), (False, "fp32")])
def test_shipped_model_by_the_processor(run, monkeypatch, portrait, byte_products, precision):
    monkeypatch.setattr("runtime.models.shipped.has_byte_products", lambda: byte_products)
    code, out, _ = run("--source", portrait, engine=False)
    assert code == 0
    assert f"ms per face in {precision}, " in out


def test_precision_of_a_given_model(run, tmp_path, portrait):
    code, _, err = run("--source", portrait, "--precision", "int8")
    assert code == 2
    assert "--precision int8 chooses a form of the shipped model; leave out --engine or --precision" in err
    assert not (tmp_path / "out").exists()


def test_picture_without_faces(run, results, tmp_path):
    cv2.imwrite(str(tmp_path / "empty.png"), np.full((90, 120, 3), 100, np.uint8))
    code, out, _ = run("--source", tmp_path / "empty.png")
    assert (code, out) == (0, f"1 picture, 0 faces; results in {tmp_path / 'out'}\n")
    assert results()[0]["faces"] == []
    assert "empty_overlay.jpg" in outputs(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_face_in_a_turned_photo(run, results, tmp_path, portrait, orientation):
    """A camera that was held another way: stored pixels differ, the picture and so the result do not."""
    upright = read_photo(portrait)
    stored = {
        1: lambda image: image,
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.transpose(1, 0, 2),
        6: lambda image: np.rot90(image),
        7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
        8: lambda image: np.rot90(image, -1),
    }[orientation](upright[40:, :])
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(stored))[1].tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0]) + bytes(4)
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert run("--source", tmp_path / "turned.jpg", "--save", "json")[0] == 0
    (line,) = results()
    assert line["size_wh"] == [512, 472]
    np.testing.assert_allclose(line["faces"][0]["landmarks"][30][:2], [225, 86], atol=12)


def test_one_bad_file_among_a_hundred(run, results, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 100)
    (folder / "041.png").write_bytes((folder / "041.png").read_bytes()[:1000])
    code, out, err = run("--source", folder, "--save", "json")
    assert code == 1
    assert "041.png: damaged or cut off, a part of the PNG file claims" in error_line(err)
    assert out.startswith("99 pictures, 99 faces, ")
    assert "1 failure;" in out
    assert [line["source"] for line in results()] == [
        str(folder / f"{number:03d}.png") for number in range(100) if number != 41
    ]


def test_folder_of_many_kinds_of_files(run, results, tmp_path, portrait):
    """Every picture is read or named and counted; other files are named together."""
    folder = make_folder(tmp_path / "photos", portrait, 2)
    (folder / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" * 9)
    (folder / "IMG_2.JXL").write_bytes(b"\xff\x0a" + bytes(99))
    for name in ("clip.mov", "notes.txt", ".hidden"):
        (folder / name).write_bytes(b"x")
    code, out, err = run("--source", folder, "--save", "json")
    assert code == 1
    note, first, second = err.splitlines()
    assert note == f"note: {folder}: no photos, left out: clip.mov, notes.txt"
    assert first.startswith(f"error: {folder / 'IMG_1.HEIC'}: HEIC that")
    assert second.startswith(f"error: {folder / 'IMG_2.JXL'}: JPEG XL that")
    assert out.startswith("2 pictures, 2 faces, ")
    assert ", 2 failures; " in out
    assert len(results()) == 2


def test_folder_without_one_readable_picture(run, results, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.heic", "b.jpg", "c.png"):
        (tmp_path / "photos" / name).write_bytes(b"no picture")
    code, out, err = run("--source", tmp_path / "photos")
    assert (code, out) == (1, f"0 pictures, 0 faces, 3 failures; results in {tmp_path / 'out'}\n")
    assert [line.partition(": ")[0] for line in err.splitlines()] == ["error"] * 3
    assert results() == []


def test_other_files_of_a_folder_are_named_briefly(run, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 1)
    for number in range(30):
        (folder / f"label{number:02d}.txt").write_bytes(b"x")
    code, _, err = run("--source", folder, "--save", "json")
    assert code == 0
    assert err.endswith("label18.txt, label19.txt and 10 more\n")


def test_same_stem_twice_in_a_folder(run, results, tmp_path, portrait):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(portrait, folder / "a.jpg")
    cv2.imwrite(str(folder / "a.png"), read_photo(portrait))
    assert run("--source", folder, "--save", "overlay,json,ply")[0] == 0
    assert outputs(tmp_path) == {
        "results.jsonl",
        "a_overlay.jpg",
        "a_png_overlay.jpg",
        "a_face0.ply",
        "a_png_face0.ply",
    }
    assert [line["faces"][0]["mesh"] for line in results()] == ["a_face0.ply", "a_png_face0.ply"]


def test_video(run, results, tmp_path, portrait):
    make_video(tmp_path / "clip.mp4", read_photo(portrait), 3)
    code, out, err = run("--source", tmp_path / "clip.mp4", "--save", "overlay,json,ply")
    assert (code, err) == (0, "")
    assert out.startswith("3 pictures, 3 faces, ")
    assert outputs(tmp_path) == {
        "results.jsonl",
        "clip_overlay.mp4",
        *(f"clip_{number:06d}_face0.ply" for number in range(3)),
    }
    assert [(line["frame"], line["timestamp_s"]) for line in results()] == [(0, 0.0), (1, 0.1), (2, 0.2)]


def test_video_that_ends_early(run, shared_data):
    code, out, err = run("--source", shared_data / "video" / "obama.mp4", "--save", "json", "--no-track")
    assert code == 0
    assert out.startswith("55 pictures, 55 faces")
    assert err.strip().endswith("obama.mp4: only 55 of the 158 frames that the file promises could be read")


def test_group_photo(run, results, shared_data):
    assert run("--source", shared_data / "photos" / "group.jpg", "--save", "json")[0] == 0
    (line,) = results()
    scores = [face["score"] for face in line["faces"]]
    assert len(scores) == 14
    assert scores == sorted(scores, reverse=True)
    assert run("--source", shared_data / "photos" / "group.jpg", "--save", "json", "--max-faces", 2)[0] == 0
    assert results()[0]["faces"] == line["faces"][:2]


def write_boxes(tmp_path, *lines):
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join(["path,x1,y1,x2,y2", *lines]) + "\n")
    return path


def test_boxes(run, results, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 3)
    boxes = write_boxes(tmp_path, "000.png,10,10,60,60", "002.png,5,5,45,50", "002.png,50,60,90,100")
    assert run("--source", folder, "--boxes", boxes)[0] == 0
    assert [len(line["faces"]) for line in results()] == [1, 0, 2]
    for face, box in zip(results()[2]["faces"], ([5, 5, 45, 50], [50, 60, 90, 100]), strict=True):
        np.testing.assert_allclose(face["box_xyxy"], box, atol=8)
        assert face["score"] == 1
    assert run("--source", folder, "--boxes", boxes, "--max-faces", 1)[0] == 0
    assert [len(line["faces"]) for line in results()] == [1, 0, 1]


def test_box_outside_its_picture_fails_that_picture(run, results, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 3)
    code, out, err = run(
        "--source", folder, "--boxes", write_boxes(tmp_path, "000.png,10,10,60,60", "001.png,500,10,600,90")
    )
    assert code == 1
    note, error = err.splitlines()
    assert note.endswith("boxes for 2 of 3 pictures; no face is looked for in the others: 002.png")
    assert "001.png: box 500,10,600,90: lies outside the picture of 128 x 128" in error
    assert [line["source"][-7:] for line in results()] == ["000.png", "002.png"]
    assert out.startswith("2 pictures, 1 face, ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000.png,10,10,nan,60", "boxes.csv line 2: box 10,10,nan,60"),
        ("000.png,60,10,10,60", "reversed"),
        ("000.png,10,10,60", "4 columns"),
        ("zzz.png,10,10,60,60", "'zzz.png' is not a picture of the source"),
    ],
)
def test_wrong_boxes_stop_the_run_before_anything_is_written(run, tmp_path, portrait, line, message):
    folder = make_folder(tmp_path / "photos", portrait, 2)
    code, out, err = run("--source", folder, "--boxes", write_boxes(tmp_path, line))
    assert (code, out) == (1, "")
    assert message in error_line(err)
    assert not (tmp_path / "out").exists()


def test_detector_of_one_size(run, results, tmp_path, portrait, fixed_detector):
    assert run("--source", portrait)[0] == 0
    (expected,) = results()[0]["faces"]
    assert run("--source", portrait, "--detector", fixed_detector(640, 640))[0] == 0
    (face,) = results()[0]["faces"]
    np.testing.assert_allclose(face["box_xyxy"], expected["box_xyxy"], atol=2)
    assert face["score"] == pytest.approx(expected["score"], abs=0.01)


def test_engines_of_face_network_and_detector(
    run, results, tmp_path, portrait, gpu_machine, sure_model, detector_engine
):
    from tests.standins.fake_engine import write_engine

    machine = gpu_machine()
    face, detector = write_engine(tmp_path / "face.engine", sure_model), detector_engine(640, 640)
    assert run("--source", portrait, "--engine", sure_model, engine=False)[0] == 0
    (expected,) = results()[0]["faces"]
    machine.cuda.log.clear()
    assert run("--source", portrait, "--engine", face, "--detector", detector, engine=False)[0] == 0
    assert {"crop", "face_rows", "decode", "capture"} <= {name for name, _ in machine.cuda.log}
    (found,) = results()[0]["faces"]
    np.testing.assert_allclose(found["box_xyxy"], expected["box_xyxy"], atol=2)
    gpu_machine()
    assert run("--source", portrait, "--detector", detector)[0] == 0  # beside a model on the CPU


@pytest.mark.parametrize("name", ["none.onnx", "none.engine", "photo.jpg"])
def test_detector_that_is_none(run, tmp_path, portrait, name):
    code, _, err = run("--source", portrait, "--detector", tmp_path / name)
    assert code == 1
    assert f"{name}: no detector there" in error_line(err)


def test_detector_none_takes_the_picture_as_the_crop(run, results, tmp_path):
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((200, 200, 3), 128, np.uint8))
    assert run("--source", tmp_path / "crop.png", "--detector", "none")[0] == 0
    x1, y1, x2, y2 = results()[0]["faces"][0]["box_xyxy"]
    assert (x1 + x2) / 2 == pytest.approx(99.5, abs=3)
    assert (x2 - x1 + y2 - y1) / 2 == pytest.approx(200 / 1.6, rel=0.04)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.jpg", None, "missing.jpg: no such file"),
        ("empty.jpg", b"", "empty.jpg: the file is empty"),
        ("text.jpg", b"hello", "text.jpg: damaged, or no photo"),
        ("text.mp4", b"hello" * 999, "text.mp4: cannot be opened as a video"),
        ("missing.mp4", None, "missing.mp4: no such file"),
        ("empty.mp4", b"", "empty.mp4: the file is empty"),
    ],
)
def test_bad_source(run, tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    code, _, err = run("--source", tmp_path / name)
    assert code == 1
    assert message in error_line(err)


def test_libraries_do_not_spoil_the_one_line(live_model, tmp_path):
    """libpng, FFmpeg and OpenCV write to the descriptor itself, so this needs a process of its own."""
    png = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8))[1].tobytes()
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "cut.mp4").write_bytes(
        make_video(tmp_path / "v.mp4", np.zeros((64, 64, 3), np.uint8), 9).read_bytes()[:600]
    )
    for source in ("cut.png", "cut.mp4", "camera:97"):
        source = source if source.startswith("camera") else str(tmp_path / source)
        command = [
            sys.executable,
            "-m",
            "runtime.run",
            "--engine",
            str(live_model),
            "--source",
            source,
            "--output",
            str(tmp_path / "out"),
        ]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert finished.returncode == 1
        assert source in error_line(finished.stderr)


def test_camera_that_is_not_there(run):
    code, _, err = run("--source", "camera:97")
    assert code == 1
    assert "camera:97: no camera answers" in error_line(err)


def test_engine_that_does_not_fit(run, tmp_path, live_model, portrait, write_model):
    copy = tmp_path / "m.onnx"
    cases = {
        tmp_path / "no.onnx": "no.onnx: no model file there",
        portrait: "astronaut.jpg: no runner for .jpg",
        shutil.copy(live_model, copy): "m.onnx.json: no model spec there",
        write_model(tmp_path / "old.onnx", onnx_sha256="00" * 32): "old.onnx: its SHA-256",
        write_model(tmp_path / "where.onnx", topology="nowhere.npz"): "nowhere.npz: no such file; give a UV topology",
    }
    (tmp_path / "text.onnx").write_text("hello")
    shutil.copy(ModelSpec.path_for(live_model), tmp_path / "text.onnx.json")
    cases[tmp_path / "text.onnx"] = "text.onnx: its SHA-256"
    for engine, message in cases.items():
        code, out, err = run("--source", portrait, "--engine", engine, engine=False)
        assert (code, out) == (1, "")
        assert message in error_line(err)


def test_model_whose_output_is_not_finite(run, tmp_path, portrait, write_model):
    path = write_model(tmp_path / "nan.onnx")
    model = onnx.load(path)
    shift = next(constant for constant in model.graph.initializer if constant.name == "shift")
    shift.CopyFrom(onnx.helper.make_tensor("shift", onnx.TensorProto.FLOAT, shift.dims, [float("nan")] * 3))
    onnx.save(model, path)
    spec = ModelSpec.path_for(path)
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "onnx_sha256": file_sha256(path)}))
    code, _, err = run("--source", portrait, "--engine", path, engine=False)
    assert code == 1
    assert "not finite" in error_line(err)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == b""


@pytest.mark.parametrize("output", ["file", "file/deeper", "/proc/none"])
def test_output_that_cannot_be_written(run, tmp_path, portrait, output):
    (tmp_path / "file").write_text("x")
    code, _, err = run("--source", portrait, "--output", tmp_path / output, output=False)
    assert code == 1
    assert "cannot be used as the output folder" in error_line(err)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, a disk without space")
def test_full_disk_in_the_middle_keeps_what_was_finished(run, results, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "002_overlay.jpg.part").symlink_to("/dev/full")
    code, _, err = run("--source", folder)
    assert code == 1
    assert "002_overlay.jpg: cannot be written (No space left on device)" in error_line(err)
    assert [line["source"][-7:] for line in results()] == ["000.png", "001.png"]
    assert outputs(tmp_path) == {"results.jsonl", "000_overlay.jpg", "001_overlay.jpg"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--source", ""],
        ["--source", "photo.jpg", "--output", ""],
        [],
        ["--source", "camera:front"],
        ["--source", "ftp://host/film.mp4"],
        ["--source", "webcam:0"],
        ["--source", "x.jpg", "--every", "2"],
        ["--source", "x.mp4", "--every", "0"],
        ["--source", "x.mp4", "--start", "soon"],
        ["--source", "x.mp4", "--start", "1:2:3:4"],
        ["--source", "x.mp4", "--start", "2", "--stop", "1"],
        ["--source", "camera:0", "--start", "1"],
        ["--source", "camera:0", "--patience", "0"],
        ["--source", "x.jpg", "--save", "overlay,mp3"],
        ["--source", "x.jpg", "--save", ""],
        ["--source", "x.jpg", "--max-faces", "0"],
        ["--source", "x.jpg", "--max-faces", "many"],
        ["--source", "x.jpg", "--threads", "-1"],
        ["--source", "x.jpg", "--detector", "dlib"],
        ["--source", "x.mp4", "--boxes", "b.csv"],
        ["--source", "camera:0", "--boxes", "b.csv"],
        ["--source", "x.jpg", "--colour", "red"],
    ],
)
def test_wrong_usage(run, tmp_path, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: python -m runtime.run")
    assert not (tmp_path / "out").exists()


def test_recursive_into_its_own_output_is_wrong_usage(run, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 1)
    code, _, err = run("--source", folder, "--recursive", "--output", folder / "out", output=False)
    assert code == 2
    assert "--recursive would read overlays" in err


def test_output_into_the_source_folder_is_wrong_usage(run, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 1)
    code, _, err = run("--source", folder, "--output", folder / ".." / "photos", output=False)
    assert code == 2
    assert "is the source folder" in err
    assert os.listdir(folder) == ["000.png"]


def test_help_states_the_meaning_of_none(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "already the square cut round one face" in " ".join(out.split())


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_keeps_what_is_finished(live_model, tmp_path, portrait, interruptible, number, expected):
    video = make_video(tmp_path / "clip.mp4", cv2.resize(read_photo(portrait), (256, 256)), 400)
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "runtime.run",
        "--engine",
        str(live_model),
        "--source",
        str(video),
        "--output",
        str(out),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = out / "results.jsonl.part"
    deadline = time.monotonic() + 120
    while not (lines.exists() and lines.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == expected
    assert stderr == "stopped; what was finished is kept\n"
    written = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert 3 <= len(written) < 400
    assert int(stdout.split()[0]) == len(written)
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "clip_overlay.mp4"}
    overlay = cv2.VideoCapture(str(out / "clip_overlay.mp4"))
    assert overlay.get(cv2.CAP_PROP_FRAME_COUNT) == len(written)


def test_part_of_a_film(run, results, tmp_path, portrait):
    video = make_video(tmp_path / "clip.mp4", cv2.resize(read_photo(portrait), (128, 128)), 20)
    code, out, err = run("--source", video, "--start", "0:00.5", "--stop", "1.5", "--every", "4", "--save", "json")
    assert (code, err) == (0, "")
    assert out.startswith("3 pictures")
    assert [(line["frame"], line["timestamp_s"]) for line in results()] == [(5, 0.5), (9, 0.9), (13, 1.3)]


def test_every_frame_of_a_file_is_read_with_live_too(run, results, tmp_path, portrait):
    video = make_video(tmp_path / "clip.mp4", cv2.resize(read_photo(portrait), (128, 128)), 20)
    code, out, err = run("--source", video, "--live", "--save", "json")
    assert code == 0
    assert len(results()) == 20
    assert "dropped" not in out
    assert err.strip().endswith("clip.mp4: no camera or stream; --live drops nothing here")


def test_subfolders_of_a_folder(run, results, tmp_path, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 1)
    make_folder(folder / "deeper", portrait, 2)
    assert run("--source", folder, "--recursive", "--save", "json,overlay")[0] == 0
    assert len(results()) == 3
    assert outputs(tmp_path) == {
        *("results.jsonl", "000_overlay.jpg", "001_overlay.jpg", "000_png_overlay.jpg"),
    }


def test_damaged_film_counts_as_a_failure(run, results, shared_data):
    code, out, err = run("--source", shared_data / "cases" / "hole_in_the_middle.mp4", "--save", "json")
    assert code == 1
    assert len(results()) == 43
    assert "43 pictures" in out
    assert "hole_in_the_middle.mp4: 12 damaged places left out; copy or download the film again" in error_line(err)


def test_second_run_into_the_same_folder(run, tmp_path, portrait):
    (tmp_path / "out").mkdir()
    lock = FolderLock(tmp_path / "out")
    code, out, err = run("--source", portrait)
    assert (code, out) == (1, "")
    assert f"another run (process {os.getpid()}) is writing into this folder" in error_line(err)
    lock.release()
    assert run("--source", portrait, "--save", "json")[0] == 0
    assert outputs(tmp_path) == {"results.jsonl"}


def test_help_into_head(tmp_path):
    command = f"{sys.executable} -m runtime.run --help | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] in ("0", "141")
    assert done.stderr == ""


def test_without_tqdm_there_is_no_bar_and_no_complaint(run, tmp_path, portrait, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.delitem(sys.modules, "runtime.console.progress", raising=False)
    folder = make_folder(tmp_path / "photos", portrait, 3)
    (folder / "001.png").write_bytes(b"")
    code, out, err = run("--source", folder)
    assert code == 1
    assert out.startswith("2 pictures, 2 faces, ")
    assert "001.png" in error_line(err)


def test_threads(run, portrait):
    assert run("--source", portrait, "--threads", 1)[0] == 0
    cv2.setNumThreads(-1)


# Engines, on the stand-in of a GPU


@pytest.fixture
def clip(tmp_path, portrait):
    return make_video(tmp_path / "clip.mp4", read_photo(portrait), 8)


def frames_of(video):
    capture, count = cv2.VideoCapture(str(video)), 0
    while capture.read()[0]:
        count += 1
    return count


def test_engine_gives_what_the_model_gives(run, results, gpu_machine, engine, clip):
    assert run("--source", clip)[0] == 0
    expected = results()
    machine = gpu_machine()
    code, out, err = run("--source", clip, "--engine", engine, engine=False)
    assert (code, err) == (0, "")
    assert re.match(
        r"8 pictures, 8 faces, \d+\.\d ms per face in \w+, detection included, tracked, GPU work overlapped; results",
        out,
    )
    assert len(results()) == 8
    for line, other in zip(results(), expected, strict=True):
        assert (line["frame"], line["timestamp_s"], len(line["faces"])) == (other["frame"], other["timestamp_s"], 1)
        np.testing.assert_allclose(line["faces"][0]["landmarks"], other["faces"][0]["landmarks"], atol=0.02)
    assert not machine.cuda.live
    assert len(machine.cuda.calls("launch")) == 8


class PatientCamera:
    """A camera with four pictures, each shown only when the line of the picture before it is in ``results``."""

    fps = 30.0
    ends = False

    def __init__(self, image, results):
        self.image, self.results = image, results
        self.shown = 0

    def read(self):
        written, deadline = 0, time.monotonic() + 3
        while written < self.shown:
            written = self.results.read_bytes().count(b"\n") if self.results.exists() else 0
            if time.monotonic() > deadline:
                break
            time.sleep(0.002)
        if written < self.shown or self.shown == 4:
            self.ends = True
            return None
        self.shown += 1
        return self.image

    def close(self):
        pass


@pytest.mark.parametrize("options", [[], ["--no-track"]], ids=["tracked", "not tracked"])
def test_a_picture_of_a_camera_is_done_before_the_next_one_is_there(
    run, results, tmp_path, gpu_machine, engine, portrait, monkeypatch, options
):
    """A GPU works on one frame of a film while the next is read; a camera's result would be a frame late."""
    camera = PatientCamera(read_photo(portrait), tmp_path / "out" / "results.jsonl.part")
    monkeypatch.setattr("runtime.sources.frame_source.Camera", lambda address, newest_only: camera)
    gpu_machine()
    code, out, err = run("--source", "camera:0", "--save", "json", "--engine", engine, *options, engine=False)
    assert (code, err, len(results()), camera.shown) == (0, "", 4, 4)
    assert "overlapped" not in out


def test_engine_on_photos_with_known_boxes(run, results, tmp_path, gpu_machine, engine, portrait):
    folder = make_folder(tmp_path / "photos", portrait, 3)
    boxes = write_boxes(
        tmp_path, "000.png,10,10,60,60", "001.png,500,10,600,90", "002.png,5,5,45,50", "002.png,50,60,90,100"
    )
    gpu_machine()
    code, out, err = run("--source", folder, "--boxes", boxes, "--engine", engine, "--sync", "block", engine=False)
    assert code == 1
    assert "001.png: box 500,10,600,90: lies outside the picture" in error_line(err)
    assert [(line["source"][-7:], len(line["faces"])) for line in results()] == [("000.png", 1), ("002.png", 2)]
    assert re.search(r"ms per face in \w+, GPU work overlapped, 1 failure; results", out)


def test_json_alone_needs_no_vertices(run, results, gpu_machine, engine, portrait):
    assert run("--source", portrait)[0] == 0
    expected = results()
    assert run("--source", portrait, "--save", "json")[0] == 0
    assert results() == expected
    machine = gpu_machine(integrated=False)
    assert run("--source", portrait, "--save", "json", "--engine", engine, engine=False)[0] == 0
    assert [details["nbytes"] for _, details in machine.cuda.calls("download")] == [16 + 816]  # marks and landmarks
    np.testing.assert_allclose(results()[0]["faces"][0]["landmarks"], expected[0]["faces"][0]["landmarks"], atol=0.02)


def test_engine_on_a_machine_without_a_gpu(run, tmp_path, engine, portrait, monkeypatch):
    monkeypatch.setattr("runtime.inference.trt.engine_file.find_device", lambda: None)
    monkeypatch.setattr("runtime.inference.trt.libraries.installed", lambda library: [])
    code, out, err = run("--source", portrait, "--engine", engine, engine=False)
    assert (code, out) == (1, "")
    reason = (
        "built on Orin for tensorrt 10.3.0, compute capability 8.7; "
        "tensorrt is not installed here and no CUDA device is found here"
    )
    assert error_line(err) == f"error: {engine}: {reason}"
    assert not (tmp_path / "out").exists()


def test_engine_without_its_manifest_has_to_be_trusted(run, gpu_machine, engine, portrait, live_model):
    gpu_machine()
    os.remove(f"{engine}.json")
    shutil.copy(ModelSpec.path_for(live_model), engine.with_suffix(".onnx.json"))
    code, _, err = run("--source", portrait, "--engine", engine, engine=False)
    assert code == 1
    assert "live.engine.json: no engine manifest there" in error_line(err)
    assert "--trust-engine" in err
    assert run("--source", portrait, "--engine", engine, "--trust-engine", engine=False)[0] == 0


def test_warnings_are_lines_of_their_own(run, gpu_machine, engine, clip):
    gpu_machine().library.failing = "capture"
    code, out, err = run("--source", clip, "--engine", engine, engine=False)
    assert code == 0
    assert out.startswith("8 pictures, 8 faces")
    assert re.fullmatch(
        r"warning: no CUDA graph can be made \(execute_async_v3 failed: .*\); every step is launched by itself, .*\n",
        err,
    )


@pytest.mark.parametrize(
    ("call", "after", "status", "message"),
    [
        ("synchronize", 4, "CUDA_ERROR_LAUNCH_FAILED", "the device is lost"),  # the last two are those of closing
        ("launch", 1, "CUDA_ERROR_OUT_OF_MEMORY", "the GPU's memory is full"),
        ("record", 2, "CUDA_ERROR_ILLEGAL_ADDRESS", "the device is lost"),
        ("host_buffer", 1, "CUDA_ERROR_OUT_OF_MEMORY", "the GPU's memory is full"),
    ],
)
def test_fault_of_the_device_in_the_middle_keeps_what_is_finished(
    run, results, tmp_path, gpu_machine, engine, clip, call, after, status, message
):
    """At the call that ``after`` others of its name follow in a run without faults."""
    machine = gpu_machine()
    assert run("--source", clip, "--engine", engine, "--save", "ply", engine=False)[0] == 0  # vertices, soon written
    total = len(machine.cuda.calls(call))
    shutil.rmtree(tmp_path / "out")
    machine = gpu_machine()
    machine.cuda.fail(call, total - after, status)
    code, out, err = run("--source", clip, "--engine", engine, engine=False)
    assert code == 1
    assert message in error_line(err)
    assert status in err
    written = results()
    assert len(written) < 8
    assert [line["frame"] for line in written] == list(range(len(written)))
    assert outputs(tmp_path) == ({"results.jsonl", "clip_overlay.mp4"} if written else {"results.jsonl"})
    if written:
        assert frames_of(tmp_path / "out" / "clip_overlay.mp4") == len(written)
        assert out.startswith(f"{len(written)} picture")
    assert not machine.cuda.live


def test_ctrl_c_while_waiting_for_the_device_keeps_what_is_finished(
    run, results, tmp_path, gpu_machine, engine, clip, monkeypatch
):
    machine, waits, wait = gpu_machine(), [], NetworkStream.wait

    def interrupted(lane):
        waits.append(lane)
        if len(waits) == 5:
            raise KeyboardInterrupt
        wait(lane)

    monkeypatch.setattr(NetworkStream, "wait", interrupted)
    code, out, err = run("--source", clip, "--engine", engine, engine=False)
    assert (code, err) == (130, "stopped; what was finished is kept\n")
    assert out.startswith("4 pictures, 4 faces")
    assert [line["frame"] for line in results()] == [0, 1, 2, 3]
    assert frames_of(tmp_path / "out" / "clip_overlay.mp4") == 4
    assert not machine.cuda.live
