"""What a detector loses: faces, the place of their boxes, and finds beside them. And the gate that limits it."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration.detectors.judge import DetectorJudge, Findings, loss
from calibration.detectors.quantise import DetectorRequest, quantise_detector
from export.graphs.yunet import fixed_yunet
from runtime.detection.yunet_rows import face_rows
from runtime.errors import FaceMeshError
from runtime.models.shipped import YUNET_ONNX
from tests.calibration.detectors.test_scenes import scenes_of

SIZE = (320, 192)


@pytest.fixture(scope="module")
def detector():
    return fixed_yunet(onnx.load(YUNET_ONNX), *SIZE)


@pytest.fixture
def judge(portrait):
    return DetectorJudge(scenes_of(portrait, 9, *SIZE))


@pytest.fixture
def folder(portrait, tmp_path):
    """Four pictures of the portrait, whole and in parts, bright and dark."""
    image = cv2.imread(str(portrait))
    (tmp_path / "pictures").mkdir()
    for number, one in enumerate((image, image[:, ::-1], image[:300, 50:400] // 2, 255 - (255 - image) // 2)):
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), one)
    return tmp_path / "pictures"


def with_bias(model, output, channel, change):
    """Return a copy whose last convolution of a level adds ``change`` to a channel."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    node = next(node for node in changed.graph.node if output in node.output)
    tensor = next(one for one in changed.graph.initializer if one.name == node.input[2])
    bias = numpy_helper.to_array(tensor).copy()
    bias[channel] += change
    tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
    return changed


def test_findings_of_the_detector(judge, detector):
    findings = judge.findings(detector)
    assert (len(judge), findings.recall, findings.others) == (9, 1.0, 0)
    assert 0 < findings.mean_box_error < 0.1
    assert loss(findings, findings) == 0


def test_what_is_lost(judge, detector):
    before = judge.findings(detector)
    blind = judge.findings(with_bias(detector, "stride_8", 0, -50))  # level of the small faces
    assert 0 < blind.recall < 1
    assert loss(blind, before) == pytest.approx(1 - blind.recall)
    wide = judge.findings(with_bias(detector, "stride_8", 4, 0.2))  # boxes wider by a fifth
    rise = loss(wide, before)
    assert 0.005 < rise < 0.15
    assert wide.mean_box_error > before.mean_box_error
    lively = judge.findings(with_bias(with_bias(detector, "stride_32", 0, 30), "stride_32", 1, 30))
    assert lively.others > 9
    assert loss(lively, before) == pytest.approx((lively.others - before.others) / 9)


def test_none_of_the_faces_found(judge, detector, folder):
    blind = detector
    for output in ("stride_8", "stride_16", "stride_32"):
        blind = with_bias(blind, output, 0, -50)
    findings = judge.findings(blind)
    assert (findings.recall, findings.others) == (0, 0)
    with np.errstate(all="raise"):
        assert np.isnan(findings.mean_box_error)
    assert loss(findings, judge.findings(detector)) == 1
    with pytest.raises(FaceMeshError, match="finds none of the"):
        quantise_detector(blind, *SIZE, DetectorRequest(folder))


def test_better_is_no_loss():
    before = Findings(np.array([True, False]), np.array([0.1, np.nan]), 3)
    after = Findings(np.array([True, True]), np.array([0.05, 0.9]), 1)
    assert loss(after, before) == pytest.approx(-0.05)  # the least of what improved


def test_change_of_the_scores(judge, detector):
    """They are those of the decoder, at the places that show a face."""
    expected = judge.levels(detector)
    assert judge.score_change(detector, expected) == 0
    shown = [face_rows(levels, 0.6)[:, 14].max() for levels in expected]
    assert min(shown) > 0.6
    for channel in (0, 1):  # class and object
        blind = detector
        for output in ("stride_8", "stride_16", "stride_32"):
            blind = with_bias(blind, output, channel, -50)
        assert 0.6 < judge.score_change(blind, expected) < 1
    assert judge.score_change(detector, judge.levels(blind)) == 0  # no place shows a face


def test_int8_finds_the_faces(detector, folder):
    result = quantise_detector(detector, *SIZE, DetectorRequest(folder, max_loss=0.1))
    assert result.loss <= 0.1
    assert (result.faces, result.layers, result.float_layers) == (1, 30, ())
    assert sum(node.op_type == "QuantizeLinear" for node in result.model.graph.node) >= 20
    assert result.reference.recall == result.findings.recall == 1


def test_gate_returns_layers_to_float_and_refuses_in_the_end(detector, folder):
    with pytest.raises(FaceMeshError, match=r"INT8: of 1 faces .* even with \d of 30 layers in float; no model"):
        quantise_detector(detector, *SIZE, DetectorRequest(folder, max_loss=-1.0))


def test_nothing_to_judge_by(portrait):
    with pytest.raises(FaceMeshError, match="no faces to judge the detector by"):
        DetectorJudge(scenes_of(portrait, 0))
