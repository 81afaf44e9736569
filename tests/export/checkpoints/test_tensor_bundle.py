"""The reader of TensorFlow checkpoints: against files that TensorFlow wrote, and against files that are wrong in one
place."""

from __future__ import annotations

import math
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from export.checkpoints.crc32c import masked_crc32c
from export.checkpoints.tensor_bundle import TensorBundle, bundle_prefix, read_index
from runtime.errors import FaceMeshError
from tests.export.checkpoints.bundle_writer import HEADER, block, entry, varint, write_bundle, write_index, write_table
from tests.standins.bounded_run import bounded_run

FIXTURES = Path(__file__).parent / "fixtures"


def test_reads_what_tensorflow_wrote():
    bundle = TensorBundle(FIXTURES / "tiny")
    with np.load(FIXTURES / "tiny.npz") as expected:
        assert set(bundle) == set(expected.files)
        assert len(bundle) == len(expected.files) == 14
        for name in bundle:
            value = bundle[name]
            assert value.dtype == expected[name].dtype
            assert value.flags.writeable
            np.testing.assert_array_equal(value, expected[name], strict=True)
    assert bundle["global_step"] == 1
    assert np.abs(bundle["resfcn256/Conv/weights/Adam"]).max() > 0
    assert "resfcn256/Conv" not in bundle


def test_reads_several_shards():
    bundle = TensorBundle(FIXTURES / "sharded")
    assert list(bundle) == ["half", "scalar", "scope/first", "scope/second"]
    np.testing.assert_array_equal(
        bundle["scope/first"], 1 + np.arange(15, dtype=np.float32).reshape(3, 5) / 64, strict=True
    )
    np.testing.assert_array_equal(bundle["scope/second"], np.arange(4, dtype=np.int32), strict=True)
    np.testing.assert_array_equal(bundle["half"], np.array([2, 2 + 1 / 64, 2 + 2 / 64], np.float16), strict=True)
    np.testing.assert_array_equal(bundle["scalar"], np.array(281.6, np.float32), strict=True)


def test_published_index(shared_data):
    entries = read_index(shared_data / "reference" / "256_256_resfcn256_weight.index")
    assert len(entries) == 545
    assert {tensor.type_name for tensor in entries.values()} == {"float32"}
    spans = sorted((tensor.offset, tensor.offset + tensor.size, tensor.shape) for tensor in entries.values())
    assert all(
        end == start for (_, end, _), (start, _, _) in zip(spans[:-1], spans[1:], strict=True)
    )  # every byte of the data file is some tensor's
    assert all(end - start == 4 * math.prod(shape) for start, end, shape in spans)


def test_many_blocks_and_large_tensors(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"scope_{i % 7}/layer_{i}/weights": rng.normal(size=(i % 5, 3)).astype(np.float32) for i in range(100)}
    tensors |= {
        "large": rng.normal(size=(301, 257)),
        "scalar": np.float32(3).reshape(()),
        "integers": np.array([-1, 2**40]),
    }
    write_bundle(tmp_path / "model.ckpt-8000", tensors)
    bundle = TensorBundle(tmp_path / "model.ckpt-8000")
    assert bundle.keys() == tensors.keys()
    for name, value in bundle.items():
        np.testing.assert_array_equal(value, tensors[name], strict=True)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("tiny", "tiny"),
        ("tiny.index", "tiny"),
        ("tiny.data-00000-of-00001", "tiny"),
        ("gone.index", "gone"),
        ("gone.data-00002-of-00004", "gone"),
        ("tiny.npz", None),
        ("gone", None),
        ("gone.pt", None),
    ],
)
def test_a_checkpoint_has_three_names(name, prefix):
    assert bundle_prefix(FIXTURES / name) == (None if prefix is None else FIXTURES / prefix)


def copy_of_tiny(folder: Path) -> Path:
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copyfile(FIXTURES / f"tiny.{suffix}", folder / f"tiny.{suffix}")
    return folder / "tiny"


def test_no_damage_of_the_index_goes_unnoticed(tmp_path):
    """Every byte, changed; every length, cut: one line that names the file, or the same entries where the byte means
    nothing."""
    path = copy_of_tiny(tmp_path).with_suffix(".index")
    whole, entries = path.read_bytes(), read_index(path)
    changed = [
        outcome(path, whole[:position] + bytes([whole[position] ^ 0x11]) + whole[position + 1 :])
        for position in range(len(whole))
    ]
    cut = [outcome(path, whole[:length]) for length in range(len(whole))]
    assert entries not in cut
    assert changed.count(entries) < 60  # the empty meta index, its handle, and the padding of the footer are not read
    messages = [result for result in changed + cut if result != entries]
    assert all(
        isinstance(message, str) and message.startswith(f"{path}: ") and "\n" not in message for message in messages
    )


def outcome(path: Path, data: bytes) -> dict | str:
    path.write_bytes(data)
    try:
        return read_index(path)
    except FaceMeshError as error:
        return str(error)


def test_no_damage_of_the_values_goes_unnoticed(tmp_path):
    prefix = copy_of_tiny(tmp_path)
    path = prefix.with_name("tiny.data-00000-of-00001")
    whole = path.read_bytes()
    entries = read_index(prefix.with_suffix(".index"))
    for name, tensor in entries.items():
        data = bytearray(whole)
        data[tensor.offset + tensor.size // 2] ^= 1
        path.write_bytes(data)
        bundle = TensorBundle(prefix)
        with pytest.raises(FaceMeshError, match=f"{path.name}: {name} cannot be read: its checksum does not fit"):
            bundle[name]
        for other in entries.keys() - {name}:
            bundle[other]
    path.write_bytes(whole[:-1])
    last = max(entries, key=lambda name: entries[name].offset)
    with pytest.raises(
        FaceMeshError,
        match=rf"{last} cannot be read: it should lie at bytes \d+ to {len(whole)}, but the file has {len(whole) - 1};",
    ):
        TensorBundle(prefix)[last]


def test_missing_files(tmp_path):
    prefix = copy_of_tiny(tmp_path)
    prefix.with_name("tiny.data-00000-of-00001").unlink()
    bundle = TensorBundle(prefix)  # names and shapes need the index alone
    with pytest.raises(
        FaceMeshError,
        match=r"tiny\.data-00000-of-00001: no such file; the values of global_step are in it: "
        r"put it beside tiny\.index",
    ):
        bundle["global_step"]
    prefix.with_name("tiny.data-00000-of-00001").mkdir()
    with pytest.raises(FaceMeshError, match=r"tiny\.data-00000-of-00001: cannot be read \(Is a directory\)"):
        bundle["global_step"]
    with pytest.raises(FaceMeshError, match=r"gone\.index: no such file"):
        TensorBundle(tmp_path / "gone")
    with pytest.raises(FaceMeshError, match=r"cannot be read \(Is a directory\)"):
        read_index(tmp_path)


def test_partitioned_variables_are_refused():
    with pytest.raises(
        FaceMeshError, match=r"'resfcn256/Conv/weights' is saved in slices \(partitioned\), which is not supported"
    ):
        TensorBundle(FIXTURES / "partitioned")


@pytest.mark.parametrize(
    ("records", "options", "reason"),
    [
        ({"": HEADER}, {"compression": 1}, r"compression \(Snappy\) is not supported"),
        ({"": HEADER}, {"compression": 9}, r"compression \(number 9\)"),
        ({}, {}, "no header"),
        ({"a": entry((), 0, 4, 0)}, {}, "no header"),
        ({"": b"\x08\x01\x10\x01"}, {}, "big-endian"),
        ({"": b"\x08\x01\x1a\x02\x10\x02"}, {}, "needs a reader of format version 2"),
        ({"": b"\x08"}, {}, "ends beyond its block"),
        ({"": b"\x0b"}, {}, "wire type 3"),
        ({"": b"\x08" + b"\xff" * 10 + b"\x01"}, {}, "more than ten bytes"),
        ({"": HEADER, "\xff": entry((), 0, 4, 0)}, {}, "utf-8"),
    ],
)
def test_what_the_index_may_not_say(tmp_path, records, options, reason):
    write_index(tmp_path / "bad", records, **options)
    with pytest.raises(
        FaceMeshError, match=rf"bad\.index: cannot be read as the index of a TensorFlow checkpoint: .*{reason}"
    ):
        read_index(tmp_path / "bad.index")


@pytest.mark.parametrize(
    ("contents", "reason"),
    [  # shared, unshared and value length of a record; then restarts
        (b"\x05\x00\x00" + bytes(4) + b"\x01\0\0\0", "a key continues one that is shorter"),
        (b"\x00\x05\x00" + bytes(4) + b"\x01\0\0\0", "a record ends beyond its block"),
        (b"\x00\x00\x05" + bytes(4) + b"\x01\0\0\0", "a record ends beyond its block"),
        (bytes(4) + b"\x02\0\0\0", "a block is shorter than its table of restarts"),
        (b"\xff\xff\xff\xff", "a block is shorter than its table of restarts"),
        (b"", "a block is shorter than its table of restarts"),
    ],
)
def test_what_a_block_may_not_say(tmp_path, contents, reason):
    write_table(tmp_path / "bad.index", {b"": contents})
    with pytest.raises(
        FaceMeshError, match=rf"bad\.index: cannot be read as the index of a TensorFlow checkpoint: {reason}; fetch"
    ):
        read_index(tmp_path / "bad.index")


def test_blocks_that_overlap_are_refused(tmp_path):
    """An index that names one block a thousand times would be read a thousand times."""
    contents = block([(b"", HEADER), *((b"%04d" % n, entry((1,), 0, 4, 0)) for n in range(50))])
    data = contents + b"\0"
    data += struct.pack("<I", masked_crc32c(data))
    footer = b""
    handle = varint(0) + varint(len(contents))
    for part in (block([]), block([(b"%04d" % n, handle) for n in range(1000)])):
        footer += varint(len(data)) + varint(len(part))
        data += part + b"\0" + struct.pack("<I", masked_crc32c(part + b"\0"))
    (tmp_path / "bad.index").write_bytes(data + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db"))
    with pytest.raises(FaceMeshError, match="its blocks overlap"):
        read_index(tmp_path / "bad.index")


@pytest.mark.parametrize(("shared", "problem"), [(4000, "times the compressed size"), (5000, "bytes in one name")])
def test_names_that_continue_each_other_are_bounded(tmp_path, shared, problem):
    """A record of a few bytes whose name is thousands of bytes long, many times."""
    record = entry((1,), 0, 4, 0)
    body = varint(0) + varint(shared) + varint(len(record)) + b"x" * shared + record
    body += (varint(shared) + varint(0) + varint(len(record)) + record) * 5000
    header = varint(0) + varint(0) + varint(len(HEADER)) + HEADER
    write_table(tmp_path / "bad.index", {b"x": header + body + bytes(4) + b"\1\0\0\0"})
    with bounded_run(), pytest.raises(FaceMeshError, match=problem):
        read_index(tmp_path / "bad.index")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (entry((2,), 4, 8, 0), "should lie at bytes 4 to 12, but the file has 8"),
        (entry((2,), -4, 8, 0), "should lie at bytes -4 to 4"),
        (entry((2,), 2**62, 8, 0), "should lie at bytes"),
        (entry((2,), 0, -8, 0), r"says -8 bytes for shape \(2,\) of float32"),
        (entry((-1, -2), 0, 8, 0), r"says 8 bytes for shape \(-1, -2\)"),
        (entry((3,), 0, 8, 0), r"says 8 bytes for shape \(3,\)"),
        (entry((2**40, 2**40), 0, 8, 0), "says 8 bytes for shape"),
        (entry((2,), 0, 8, 0, type_number=7), "its type, DataType 7 of TensorFlow, is not supported"),
        (entry((2,), 0, 8, 0, shard=1), "in shard 1 of 1"),
        (entry((2,), 0, 8, 0, shard=-1), "in shard -1 of 1"),
        (entry((2,), 0, 8, 0), "checksum"),
    ],
)
def test_what_an_entry_may_not_say(tmp_path, record, reason):
    write_index(tmp_path / "bad", {"": HEADER, "x/weights": record})
    for shard in ("00000", "00001", "-0001"):
        (tmp_path / f"bad.data-{shard}-of-00001").write_bytes(bytes(8))
    with pytest.raises(
        FaceMeshError, match=rf"bad\.data-.*: x/weights cannot be read: .*{reason}.*; fetch the file again"
    ):
        TensorBundle(tmp_path / "bad")["x/weights"]
