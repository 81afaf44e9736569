"""The export road walked once: models and files that several tests look at."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def prnet_road(tmp_path_factory):
    """PRNet with 13.4 M live random parameters, read from a checkpoint file: ``network``, its ``spec``, ``plain``,
    ``rewritten`` and
    ``half`` models, the rewrites' ``steps``, the ``images`` of checks and outputs of ``plain`` (``expected``)."""
    pytest.importorskip("onnxsim")
    import torch

    from export.checkpoints.checkpoint import load_checkpoint
    from export.graphs.fp16 import to_fp16
    from export.graphs.network_spec import network_spec
    from export.graphs.rewrite import rewrite
    from export.graphs.to_onnx import to_onnx
    from export.graphs.verify import run_model, verification_images
    from tests.standins.networks import live_prnet

    checkpoint = tmp_path_factory.mktemp("prnet_checkpoint") / "last.pt"
    torch.save({"network": live_prnet().state_dict()}, checkpoint)
    network = load_checkpoint("prnet", checkpoint)
    spec, plain = network_spec(network, "prnet"), to_onnx(network, "prnet")
    images = verification_images(spec.input, spec.crop_scale)
    expected = run_model(plain, images, spec.output.name)
    rewritten, steps = rewrite(plain, images, {spec.output.name: expected})
    half, warnings = to_fp16(rewritten)
    assert not warnings
    return SimpleNamespace(
        network=network,
        spec=spec,
        plain=plain,
        images=images,
        expected=expected,
        rewritten=rewritten,
        steps=steps,
        half=half,
    )


@pytest.fixture(scope="session")
def prnet_files(prnet_road, tmp_path_factory) -> dict[str, Path]:
    """The rewritten PRNet as files with their specs: ``fp32`` and ``fp16``."""
    from calibration.precision.model_file import write_model

    folder = tmp_path_factory.mktemp("prnet")
    paths = {"fp32": folder / "prnet.onnx", "fp16": folder / "prnet-fp16.onnx"}
    write_model(prnet_road.rewritten, prnet_road.spec, paths["fp32"])
    write_model(prnet_road.half, dataclasses.replace(prnet_road.spec, precision="fp16"), paths["fp16"])
    return paths


@pytest.fixture
def other_file_system(tmp_path):
    """An empty folder on another file system than ``tmp_path``."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.stat(memory).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
