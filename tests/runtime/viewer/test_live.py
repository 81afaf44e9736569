"""Viewer and packets as options of ``python -m runtime.run``."""

from __future__ import annotations

import os
import re
import socket

import pytest

from runtime.run import main

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


def test_a_viewer_and_packets_beside_the_files(portrait, tmp_path, capfd):
    out = tmp_path / "out"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(20)
        address = f"127.0.0.1:{receiver.getsockname()[1]}"
        options = ["--serve", "0", "--osc", address, "--save", "json,camera,expression"]
        assert main(["--source", str(portrait), "--output", str(out), *options]) == 0
        assert receiver.recv(65536).startswith(b"#bundle")
    assert sorted(os.listdir(out)) == ["cameras.jsonl", "expressions.jsonl", "results.jsonl"]
    assert re.search(r"viewer: http://127\.0\.0\.1:\d+/$", capfd.readouterr().err, re.MULTILINE)


def test_a_viewers_port_that_is_taken(portrait, tmp_path, capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--source", str(portrait), "--output", str(tmp_path), "--serve", str(port)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: --serve 127.0.0.1:{port}: cannot listen there (")
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--serve", "70000"], "does not end in a port from 0 to 65535"),
        (["--serve", "host:"], "does not end in a port"),
        (["--osc", "127.0.0.1"], "does not end in a port from 1 to 65535"),
        (["--osc", "127.0.0.1:0"], "does not end in a port from 1 to 65535"),
        (["--serve-token", "x"], "--serve-token goes with --serve"),
        (["--texture-size", "8"], "is not a whole number from 16 to 8192"),
    ],
)
def test_addresses_and_sizes_that_are_none(portrait, capfd, options, message):
    with pytest.raises(SystemExit) as ended:
        main(["--source", str(portrait), *options])
    assert ended.value.code == 2
    assert message in capfd.readouterr().err
