"""resfcn256 is the published network: variables of its checkpoint, arithmetic of TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from export.checkpoints.tensor_bundle import read_index  # noqa: E402
from tests.standins.networks import live_prnet  # noqa: E402
from training.networks.prnet import PRNet, ResidualBlock, SameConv, SameConvTranspose  # noqa: E402
from training.networks.untrained import blobs  # noqa: E402


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return PRNet()


@pytest.fixture(scope="module")
def live_network():
    return live_prnet()


def tensorflow_conv(x, kernel, stride):
    """``tf.nn.conv2d(padding="SAME")`` by its definition; x (H, W, I), kernel (k, k, I, O)."""
    size, k = x.shape[0], kernel.shape[0]
    out = -(-size // stride)
    total = max((out - 1) * stride + k - size, 0)
    before = total // 2
    padded = np.pad(x, ((before, total - before), (before, total - before), (0, 0)))
    y = np.zeros((out, out, kernel.shape[3]))
    for row in range(out):
        for column in range(out):
            patch = padded[row * stride : row * stride + k, column * stride : column * stride + k]
            y[row, column] = np.tensordot(patch, kernel, 3)
    return y


def tensorflow_conv_transpose(x, kernel, stride):
    """``tf.nn.conv2d_transpose(padding="SAME")``: the gradient of the convolution from size * stride to size; kernel
    (k, k, O, I)."""
    size = x.shape[0] * stride
    y = np.zeros((size, size, kernel.shape[2]))
    for row in range(size):
        for column in range(size):
            for channel in range(kernel.shape[2]):
                impulse = np.zeros(y.shape)
                impulse[row, column, channel] = 1
                y[row, column, channel] = (
                    tensorflow_conv(impulse, kernel, stride) * x
                ).sum()  # J^T x, one row of J^T at a time
    return y


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("layer_type", "reference"), [(SameConv, tensorflow_conv), (SameConvTranspose, tensorflow_conv_transpose)]
)
def test_layers_compute_what_tensorflow_defines(layer_type, reference, stride):
    rng = np.random.default_rng(0)
    channels_in, channels_out = 3, 2
    layer = layer_type(channels_in, channels_out, stride)
    order = (channels_in, channels_out) if layer_type is SameConv else (channels_out, channels_in)
    kernel = rng.normal(size=(4, 4, *order))
    layer.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(np.float32))
    x = rng.normal(size=(6, 6, channels_in))
    with torch.no_grad():
        y = layer(torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)))[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(y, reference(x, kernel, stride), atol=1e-5)


def test_residual_block_normalises_after_the_addition():
    torch.manual_seed(0)
    block = ResidualBlock(8, 16, 2).eval()
    torch.nn.init.zeros_(block.expand.weight)
    torch.nn.init.constant_(block.norm.weight, 3)  # before the addition this would not touch the shortcut
    block.norm.running_var[:] = 1 - 1e-3
    x = torch.rand(1, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(block(x), torch.relu(3 * block.shortcut(x)))
    assert isinstance(ResidualBlock(16, 16, 1).shortcut, torch.nn.Identity)


def test_size_of_the_network(network):
    macs = 0

    def count(module, inputs, output):
        nonlocal macs
        transposed = isinstance(module, torch.nn.ConvTranspose2d)
        positions = inputs[0].shape[2:].numel() if transposed else output.shape[2:].numel()
        macs += module.weight.numel() * positions

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))
    ]
    assert len(hooks) == 1 + 10 * 3 + 5 + 17
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 256, 256))
    for hook in hooks:
        hook.remove()
    assert sum(parameter.numel() for parameter in network.parameters()) == 13_353_618
    assert macs == pytest.approx(4.13e9, rel=0.002)


def test_normalisation_is_slims_default(network):
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 1 + 10 * 3 + 17
    assert {(norm.eps, norm.affine) for norm in norms} == {(1e-3, True)}
    assert not [name for name, _ in network.named_parameters() if name.endswith("conv.bias")]


def test_output_is_a_map_that_depends_on_its_input(live_network):
    with torch.no_grad():
        first, second = live_network(blobs(10, 1)), live_network(blobs(11, 1))
    assert first.shape == (1, 3, 256, 256)
    assert first.min() > 0
    assert first.max() < 1
    assert first.std() > 0.05
    assert (first - second).abs().mean() > 0.02


def test_every_variable_of_the_published_checkpoint_has_its_place(network, shared_data):
    published = read_index(shared_data / "reference" / "256_256_resfcn256_weight.index")
    published = {
        name: entry.shape for name, entry in published.items() if "Adam" not in name and not name.endswith("_power")
    }
    state, names = network.state_dict(), network.tensorflow_names()
    assert {name for name, _ in names.values()} == published.keys()
    assert len({name for name, _ in names.values()}) == len(names)  # none used twice
    assert names.keys() == {key for key in state if not key.endswith("num_batches_tracked")}
    for key, (name, axes) in names.items():
        assert tuple(state[key].shape) == tuple(published[name][axis] for axis in axes), key
