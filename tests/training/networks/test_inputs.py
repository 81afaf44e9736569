"""Pictures as a network takes them: training and runtime agree in colour order and value range."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from runtime.geometry.crop import crop_into  # noqa: E402
from runtime.tensors import InputSpec  # noqa: E402
from training.networks.inputs import InputForm, image_tensor  # noqa: E402


@pytest.mark.parametrize("colour_order", ["RGB", "BGR"])
@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-0.99609375, 0.99609375)])
def test_training_sees_what_the_runtime_crops(colour_order, value_range):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    cropped = np.empty((3, 16, 16), np.float32)
    crop_into(image, np.eye(2, 3), InputSpec("image", 16, "NCHW", colour_order, value_range), cropped)
    seen = image_tensor(InputForm(colour_order, value_range), torch.from_numpy(image[None]))[0].numpy()
    np.testing.assert_allclose(seen, cropped, atol=0.01)
    assert np.abs(seen - seen[::-1]).max() > 0.5
