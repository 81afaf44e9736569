"""Plans, readers and files of archives, without Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import tarfile
from urllib.parse import quote

import cv2
import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'facemesh-edge[batch]'")
pytest.importorskip("onnxruntime")

from pyarrow import parquet  # noqa: E402

from runtime.archives.face_rows import unpacked_vertices  # noqa: E402
from runtime.archives.pictures import picture_column, pictures_of  # noqa: E402
from runtime.archives.places import inside, suffix_of  # noqa: E402
from runtime.archives.plan import Found, Plan, find_files, make_shards, save_plan  # noqa: E402
from runtime.archives.settings import Settings  # noqa: E402
from runtime.archives.shard import Counts, Shard  # noqa: E402
from runtime.archives.work import FOLDERS, MOST_TRIES, ShardWorker, counted_try, finished  # noqa: E402
from runtime.detection.yunet import YuNetDetector  # noqa: E402
from runtime.errors import FaceMeshError  # noqa: E402
from runtime.inference.open_runner import open_runner  # noqa: E402
from runtime.models.shipped import SHIPPED  # noqa: E402
from runtime.pipeline import FaceMeshPipeline  # noqa: E402
from runtime.storage.whole_files import file_sha256  # noqa: E402

SETTINGS = Settings((), None, None, "fp32", False, None, None, 1, 4, False).with_digests()


@pytest.fixture
def archive(tmp_path, portrait):
    """A folder with every kind of source: 3 photos (one broken), a tar of 5 members, Parquet of 5 rows."""
    content = portrait.read_bytes()
    folder = tmp_path / "archive"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(content)
    (folder / "b.jpg").write_bytes(content[:900])
    (folder / "c.png").write_bytes(cv2.imencode(".png", np.full((64, 48, 3), 90, np.uint8))[1].tobytes())
    (folder / "notes.txt").write_text("not a picture")
    (folder / ".hidden.jpg").write_bytes(content)
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, data in (
            ("0.jpg", content),
            ("0.json", b"{}"),
            ("1.jpg", b""),
            ("2.jpg", content),
            ("3.jpg", content),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    rows = [
        {"bytes": content, "path": "first.jpg"},
        {"bytes": content, "path": None},
        None,
        {"bytes": b"?", "path": "x"},
    ]
    table = pa.table({"id": range(5), "image": [*rows, rows[0]], "other": [b"1"] * 5})
    parquet.write_table(table, folder / "set.parquet", row_group_size=2)
    return folder


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "output"
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    return folder


def do_all(folder, settings=SETTINGS) -> Counts:
    worker = ShardWorker(folder, settings)
    total = Counts()
    for number in range(len(Plan(folder))):
        total += worker(number)
    worker.close()
    return total


def plan(sources, folder, pictures=2, recursive=False) -> list[Shard]:
    shards = list(make_shards(find_files([str(source) for source in sources], recursive), pictures))
    save_plan(shards, SETTINGS.document(), folder)
    return shards


def test_every_picture_of_every_kind_is_done_once(archive, output, portrait):
    shards = plan([archive, archive / "a.jpg"], output)
    assert [shard.kind for shard in shards] == [
        "photos",
        "photos",
        "tar",
        "tar",
        "tar",
        "parquet",
        "parquet",
        "parquet",
    ]
    assert [Plan(output)[number] for number in range(len(shards))] == shards
    total = do_all(output)
    assert (total.pictures, total.faces, total.errors) == (3 + 4 + 5, 1 + 3 + 3, 1 + 1 + 2)
    assert total.core_s > 0
    faces = parquet.read_table(output / "faces").to_pylist()
    keys = sorted((row["source"].rsplit("/", 1)[-1], row["key"].rsplit("/", 1)[-1]) for row in faces)
    tar, table = "shard.tar", "set.parquet"
    assert keys == [("archive", "a.jpg"), (table, "1"), (table, "first.jpg"), (table, "first.jpg")] + [
        (tar, name) for name in ("0.jpg", "2.jpg", "3.jpg")
    ]
    errors = {row["key"].rsplit("/", 1)[-1]: row["error"] for row in parquet.read_table(output / "errors").to_pylist()}
    assert {*errors} == {"b.jpg", "1.jpg", "2", "x"}
    assert "cut off" in errors["b.jpg"]
    assert "(0 bytes)" in errors["1.jpg"]
    assert "holds no picture" in errors["2"]
    with open_runner(precision="fp32") as runner:
        (face,) = FaceMeshPipeline(runner, YuNetDetector())(cv2.imread(str(portrait)))
    row = faces[0]
    np.testing.assert_array_equal(np.float32(row["landmarks"]).reshape(68, 3), face.landmarks)
    np.testing.assert_array_equal(np.float32(row["box_xyxy"]), face.box_xyxy)
    values = (row["score"], row["confidence"], row["yaw_deg"], row["pitch_deg"], row["roll_deg"])
    expected = (face.score, face.confidence, face.pose.yaw_deg, face.pose.pitch_deg, face.pose.roll_deg)
    assert values == pytest.approx(expected, rel=1e-6)
    assert (row["face"], row["frame"], row["time_s"]) == (0, 0, 0.0)


def test_a_finished_part_is_not_done_again_and_an_unfinished_one_is_as_a_whole(archive, output):
    plan([archive], output)
    first = do_all(output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.*")}
    assert do_all(output) == first
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.*")} == before
    (output / "done" / "0000002.json").unlink()
    again = do_all(output)
    assert dataclasses.replace(again, core_s=0) == dataclasses.replace(first, core_s=0)
    changed = {path.name for path in output.rglob("*.*") if path.stat().st_mtime_ns != before[path]}
    assert changed == {"0000002.parquet", "0000002.json"}
    assert not list(output.rglob(".*"))


def test_nothing_of_a_part_appears_when_its_worker_fails(archive, output, monkeypatch):
    plan([archive], output)
    worker = ShardWorker(output, SETTINGS)

    def fail(number):
        raise MemoryError

    monkeypatch.setattr(worker, "_results", fail)
    with pytest.raises(MemoryError):
        worker(0)
    assert [path for path in output.rglob("*") if path.is_file()] == [output / "plan.parquet"]
    assert finished(output, 0) is None


def test_a_worker_with_another_model_does_not_begin(archive, output):
    plan([archive], output)
    for name, file in (("model", r"edge\.onnx"), ("model's .json", r"edge\.onnx\.json")):
        other = {**SETTINGS.sha256, name: file_sha256(SHIPPED["int8"])}
        with pytest.raises(FaceMeshError, match=f"{file}: another file than where the run was begun"):
            ShardWorker(output, dataclasses.replace(SETTINGS, sha256=other))


def test_a_detector_in_an_engine_finds_the_faces(archive, output, gpu_machine, detector_engine):
    """As many as the CPU's, in every picture; another file in its place is refused."""
    plan([archive], output)
    machine, engine = gpu_machine(), detector_engine(640, 640)
    settings = dataclasses.replace(SETTINGS, detector=str(engine)).with_digests()
    total = do_all(output, settings)
    assert (total.pictures, total.faces) == (3 + 4 + 5, 1 + 3 + 3)
    assert len(machine.cuda.calls("launch")) >= 7  # of the detector alone, the network runs on the CPU
    with pytest.raises(FaceMeshError, match=r"detector\.engine: another file than where the run was begun"):
        ShardWorker(output, dataclasses.replace(settings, sha256={**settings.sha256, "detector": "0" * 64}))


def test_a_part_that_kills_its_workers_is_given_up(archive, output):
    """A byte stays of each that has died; a failure leaves none, nor does success."""
    for error in (ValueError, None):
        with contextlib.suppress(ValueError), counted_try(output, "0000000", "here"):
            if error is not None:
                raise error
        assert not list((output / "tries").iterdir())
    plan([archive], output)
    worker = ShardWorker(output, SETTINGS)
    (output / "tries" / "0000000").write_bytes(b"." * (MOST_TRIES - 1))
    assert worker(0).pictures > 0
    assert not list((output / "tries").iterdir())
    (output / "tries" / "0000001").write_bytes(b"." * MOST_TRIES)
    with pytest.raises(FaceMeshError, match=r"killed 3 times at part 1 \(.*archive"):
        worker(1)
    worker.close()


def test_vertices_are_kept_to_a_thousandth_of_the_face(archive, output, portrait):
    settings = dataclasses.replace(SETTINGS, vertices=True)
    plan([archive / "a.jpg"], output)
    do_all(output, settings)
    table = parquet.read_table(output / "faces")
    assert table.schema.field("vertices").type == pa.list_(pa.float16(), 3 * 43867)
    with open_runner(precision="fp32") as runner:
        (face,) = FaceMeshPipeline(runner, YuNetDetector())(cv2.imread(str(portrait)))
    packed = table.column("vertices").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found = unpacked_vertices(packed, face.box_xyxy)
    assert np.abs(found - face.vertices).max() < 1e-3 * np.ptp(face.box_xyxy[1::2])


def test_a_film_is_cut_by_the_minute_and_no_frame_is_lost_or_twice(tmp_path, monkeypatch):
    pytest.importorskip("av")
    from tests.standins.films import number_of, numbered, write_film

    film = write_film(tmp_path / "film.mp4", [numbered(number) for number in range(60)], fps=25)
    monkeypatch.setattr("runtime.archives.plan.SEGMENT_S", 0.7)
    shards = list(make_shards(find_files([str(film)], False), 4))
    assert len(shards) == 4
    frames = [
        (item.frame, number_of(item.content))
        for number, shard in enumerate(shards)
        for item in pictures_of(shard, number == len(shards) - 1, None, 1)
    ]
    assert frames == [(number, number) for number in range(60)]
    beyond = Shard("film", str(film), (), 120.0, 180.0)
    assert list(pictures_of(beyond, True, None, 1)) == []
    every = [item.frame for item in pictures_of(dataclasses.replace(shards[0], end=9.0), True, None, 25)]
    assert every == [0, 25, 50]


def test_damaged_files_cost_a_row_each(tmp_path, output, portrait):
    for name in ("film.mp4", "cut.tar", "table.parquet"):
        (tmp_path / name).write_bytes(b"nothing of the kind" * 99)
    (tmp_path / "empty.tar").touch()
    sources = [tmp_path / name for name in ("film.mp4", "cut.tar", "table.parquet", "empty.tar")]
    gone = tmp_path / "gone.jpg"
    gone.write_bytes(portrait.read_bytes())
    plan([*sources, gone], output)
    gone.unlink()
    total = do_all(output)
    assert (total.pictures, total.faces, total.errors) == (5, 0, 5)
    texts = sorted(row["error"] for row in parquet.read_table(output / "errors").to_pylist())
    assert all("\n" not in text for text in texts)
    names = ("cut.tar", "empty.tar", "film.mp4", "gone.jpg", "table.parquet")
    assert all(name in text for name, text in zip(names, texts, strict=True))


@pytest.mark.parametrize(
    ("columns", "wanted", "result"),
    [
        ({"picture": pa.binary(), "text": pa.string()}, None, "picture"),
        ({"mask": pa.binary(), "image": pa.large_binary()}, None, "image"),
        ({"image": pa.struct([("bytes", pa.binary()), ("path", pa.string())])}, None, "image"),
        ({"a": pa.binary(), "b": pa.binary()}, "b", "b"),
        (
            {"a": pa.binary(), "b": pa.binary()},
            None,
            "2 columns of bytes (a, b); name the one with pictures by --column",
        ),
        ({"text": pa.string()}, None, "has no column of bytes"),
        ({"text": pa.string(), "a": pa.binary()}, "text", "no column 'text' of bytes; there are a"),
    ],
)
def test_the_column_with_pictures_is_found_or_named(columns, wanted, result):
    schema = pa.schema(list(columns.items()))
    if result in columns:
        assert picture_column(schema, wanted, "x.parquet") == result
    else:
        with pytest.raises(FaceMeshError) as error:
            picture_column(schema, wanted, "x.parquet")
        assert result in str(error.value)


def test_what_lies_in_a_tar_beside_photos_is_told(tmp_path, output, portrait):
    """Names with a newline and long attributes are pax's; links, films and raw files cost a row each."""
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind in (
            ("link.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
            ("folder.jpg", tarfile.DIRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a.jpg"
            tar.addfile(member)
        for name, kind in (
            ("two\nlines.jpg", tarfile.REGTYPE),
            ("contiguous.jpg", tarfile.CONTTYPE),
            ("film.mp4", tarfile.REGTYPE),
            ("raw.dng", tarfile.REGTYPE),
            ("notes.json", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, portrait.stat().st_size
            member.pax_headers = {"SCHILY.xattr.user.note": "x" * 6000}
            tar.addfile(member, io.BytesIO(portrait.read_bytes()))
    plan([tmp_path / "x.tar"], output, 100)
    total = do_all(output)
    assert (total.pictures, total.faces, total.errors) == (7, 2, 5)
    rows = parquet.read_table(output / "errors").to_pylist()
    assert {row["key"]: row["error"].split("; ")[1] for row in rows} == {
        **dict.fromkeys(["link.jpg", "hard.jpg", "pipe.jpg"], "pack the archive with --dereference"),
        "film.mp4": "unpack it",
        "raw.dng": "develop it to JPEG or PNG",
    }


@pytest.mark.parametrize(("use_dictionary", "most"), [(True, 40), (False, 1)])
def test_a_small_table_takes_little_memory(tmp_path, use_dictionary, most):
    """One value that all rows share is in memory once; else the row group is refused by what it claims."""
    table = pa.table({"image": [{"bytes": bytes(2_000_000), "path": "a"}] * 40})
    parquet.write_table(table, tmp_path / "x.parquet", compression="zstd", use_dictionary=use_dictionary)
    before = pa.total_allocated_bytes()
    items = [(pa.total_allocated_bytes(), item.content) for item in pictures_of(shard_of(tmp_path), True, None, 1)]
    assert len(items) == most
    assert max(allocated for allocated, _ in items) - before < 30e6
    if not use_dictionary:
        assert "a row group unpacks" in str(items[0][1])


def shard_of(folder) -> Shard:
    (shard,) = make_shards(find_files([str(folder)], False), 99)
    return shard


def test_sources_without_pictures_are_refused(tmp_path, archive):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "deep").mkdir()
    (tmp_path / "empty" / "deep" / "a.jpg").write_bytes(b"x")
    for source, reason in (
        ("none", "no such file or folder"),
        ("empty", "no pictures there (--recursive searches subfolders, too)"),
        ("archive/notes.txt", "is none of a photo, a folder, a film, a .tar or a .parquet file"),
        ("s4://bucket/x", "cannot be read"),
    ):
        place = source if "://" in source else str(tmp_path / source)
        with pytest.raises(FaceMeshError) as error:
            find_files([place], False)
        assert reason in str(error.value)
    assert find_files([str(tmp_path / "empty")], True).photos == [str(tmp_path / "empty" / "deep" / "a.jpg")]
    assert [name.rsplit("/", 1)[-1] for name in find_files([str(archive)], False).others] == ["notes.txt"]


def test_uris_are_read_like_paths(archive, output):
    plan([f"file://{archive}"], output)
    total = do_all(output)
    assert (total.pictures, total.errors) == (12, 4)


def test_names_may_have_any_characters(tmp_path, output, portrait):
    """Bytes that are no UTF-8 are written out in the rows; a folder is found by its URI, too."""
    folder = tmp_path / "a folder" / "ü"
    folder.mkdir(parents=True)
    names = ["a b.jpg", "c#d.jpg", "e?f.jpg", "x%20y.jpg", "ü.jpg", os.fsdecode(b"\xff.jpg")]
    for name in names:
        (folder / name).write_bytes(portrait.read_bytes())
    with tarfile.open(folder / os.fsdecode(b"\xfe.tar"), "w") as tar:
        tar.add(portrait, os.fsdecode(b"in \xfd.jpg"))
    table = pa.table({"image": [{"bytes": portrait.read_bytes(), "path": 7}]})
    parquet.write_table(table, folder / "numbers.parquet")
    plan([f"file://{quote(str(folder))}"], output)
    total = do_all(output)
    assert (total.pictures, total.faces, total.errors) == (8, 8, 0)
    rows = parquet.read_table(output / "faces").to_pylist()
    found = {row["key"].rsplit("/", 1)[-1] for row in rows}
    assert found == {*names[:-1], "\\udcff.jpg", "in \\udcfd.jpg", "7"}
    assert {row["source"] for row in rows} == {
        str(folder),
        str(folder / "numbers.parquet"),
        str(folder / "\\udcfe.tar"),
    }


def test_no_file_is_found_twice(tmp_path, archive):
    """Neither by another way to its folder, nor through links that lead in circles."""
    (archive / "self").symlink_to(archive)
    (archive / "up").symlink_to(tmp_path)
    once = find_files([str(archive)], False)
    for sources in ([archive, archive / ".." / "archive"], [archive, tmp_path], [archive / "self", archive]):
        found = find_files([str(source) for source in sources], True)
        assert (len(found.photos), len(found.tars), len(found.parquets)) == (3, 1, 1)
    assert len(once.photos) == 3


def test_addresses_of_other_places():
    assert inside("s3://bucket/a%20b/?region=eu", "c d/ü#.jpg") == "s3://bucket/a%20b/c%20d/%C3%BC%23.jpg?region=eu"
    assert [suffix_of(place) for place in ("s3://b/x.JPG?region=eu", "/a/b?c.png", "gs://b/x")] == [".jpg", ".png", ""]
    found = find_files(["http://127.0.0.1/film.mp4", "https://host/a/b.MKV?token=1"], False)
    assert found.films == ["http://127.0.0.1/film.mp4", "https://host/a/b.MKV?token=1"]
    (photos,) = make_shards(Found(["s3://bucket/x/1.jpg"], [], [], [], []), 4)
    assert photos.source == "s3://bucket/x"


def test_a_plan_of_another_kind_is_refused(output):
    parquet.write_table(pa.table({"a": [1]}), output / "plan.parquet")
    with pytest.raises(FaceMeshError, match="cannot be read as the plan of a run"):
        Plan(output)
    (output / "plan.parquet").write_text(json.dumps({}))
    with pytest.raises(FaceMeshError, match="cannot be read as the plan of a run"):
        Plan(output)
