"""UH-E2FAR: its sizes, the start of its trunk at a VGG-16, a frozen trunk, and its layers in low rank."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from runtime.errors import FaceMeshError  # noqa: E402
from tests.standins.networks import live_e2far  # noqa: E402
from training.networks.e2far import CAFFE_MEANS, TORCHVISION_MEANS, TORCHVISION_STDS, E2far  # noqa: E402
from training.networks.low_rank import low_rank, reduce_layers  # noqa: E402

WIDTH = 16


def pictures(count: int, seed: int = 1) -> torch.Tensor:
    """Coarse random pictures in the network's value range."""
    cells = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(255 * cells - 127.5, size=180, mode="bilinear")


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        network = E2far()
        pool4, pool5 = network.trunk(torch.zeros(2, 3, 180, 180))
        assert (pool4.shape, pool5.shape) == ((2, 512, 11, 11), (2, 512, 5, 5))
        assert network(torch.zeros(2, 3, 180, 180)).shape == (2, 62)
    weights = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert sum(weights.values()) == 135_415_998
    large = [count for name, count in weights.items() if name.startswith(("identity", "expression"))]
    assert sum(large) == pytest.approx(113e6, rel=0.005)
    assert network.identity[0].weight.shape == network.expression[0].weight.shape == (4096, 12800)
    heads = (network.pose, network.identity[-1], network.expression[-1])
    assert [layer.out_features for layer in heads] == [12, 40, 10]


def test_expression_reads_pool4_identity_and_pose_do_not():
    network = live_e2far(WIDTH)
    with torch.no_grad():
        pool4, pool5 = network.trunk(pictures(2))
        before, after = network.head_inputs(pool4, pool5), network.head_inputs(1.5 * pool4, pool5)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def vgg_state(layout: str) -> dict[str, torch.Tensor]:
    """Weights of a narrow VGG-16 with the names of ``layout``."""
    torch.manual_seed(5)
    state = {n: v + 0.01 for n, v in E2far(WIDTH).state_dict().items() if n[:6] < "conv6" and n.startswith("conv")}
    if layout == "caffe":
        return state | {"fc6.weight": torch.zeros(1)}
    places = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    names = sorted({name.partition(".")[0] for name in state})
    place = dict(zip(names, places, strict=True))
    renamed = {f"features.{place[n.partition('.')[0]]}.{n.partition('.')[2]}": v for n, v in state.items()}
    return renamed | {"classifier.0.weight": torch.zeros(1)}


@pytest.mark.parametrize("layout", ["caffe", "torchvision"])
def test_trunk_sees_colours_as_the_vgg_did(layout):
    """Inside the border, whose padding is grey here and the mean colour there."""
    network, state = E2far(WIDTH), vgg_state(layout)
    network.load_trunk(state)
    image = pictures(1)
    colours = image + 127.5
    if layout == "caffe":
        seen = colours.flip(1) - torch.tensor(CAFFE_MEANS).view(1, 3, 1, 1)
        first = "conv1_1"
    else:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (TORCHVISION_MEANS, TORCHVISION_STDS))
        seen = (colours / 255 - mean) / std
        first = "features.0"
    expected = nn.functional.conv2d(seen, state[f"{first}.weight"], state[f"{first}.bias"])
    with torch.no_grad():
        found = network.conv1_1(image)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    last = "conv5_3" if layout == "caffe" else "features.28"
    assert torch.equal(network.conv5_3.weight, state[f"{last}.weight"])


def test_other_weights_are_no_trunk():
    state = vgg_state("caffe")
    with pytest.raises(FaceMeshError, match=r"1 of 26 tensors are missing or misshapen, first conv3_2\.bias"):
        E2far(WIDTH).load_trunk({name: value for name, value in state.items() if name != "conv3_2.bias"})
    with pytest.raises(FaceMeshError, match="not the trunk of a VGG-16: 26 of 26 tensors"):
        E2far(2 * WIDTH).load_trunk(state)


def test_frozen_trunk_stays():
    network = live_e2far(WIDTH).train()
    network.trunk_frozen = True
    network(pictures(2)).sum().backward()
    moved = {name.partition(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert moved == {"conv6", "conv7", "conv8", "pose_reduce", "pose", "identity", "expression"}
    network.trunk_frozen = False
    network(pictures(2)).sum().backward()
    assert network.conv1_1.weight.grad.abs().max() > 0


@torch.no_grad()
def test_low_rank_is_the_best_of_its_rank():
    """On its inputs no projection loses less: the loss is what the singular values of the outputs say."""
    torch.manual_seed(0)
    layer = nn.Linear(60, 30)
    inputs = torch.randn(500, 60) * torch.logspace(0, -2, 60) + 1
    outputs = layer(inputs)
    small, lost = low_rank(layer, 5, inputs)
    values = torch.linalg.svdvals((outputs - outputs.mean(0)).double())
    expected = (values[5:].square().sum() / values.square().sum()).item()
    error = (small(inputs) - outputs).square().sum() / (outputs - outputs.mean(0)).square().sum()
    assert lost == pytest.approx(expected, rel=1e-3) == error.item()
    plain, share = low_rank(layer, 5, None)
    assert (plain(inputs) - outputs).square().sum() > 1.5 * (small(inputs) - outputs).square().sum()
    values = torch.linalg.svdvals(layer.weight.double())
    assert share == pytest.approx((values[5:].square().sum() / values.square().sum()).item(), rel=1e-3)
    whole, nothing = low_rank(layer, 30, None)
    torch.testing.assert_close(whole(inputs), outputs, rtol=1e-3, atol=1e-4)
    assert nothing == 0


@pytest.mark.slow
@torch.no_grad()
def test_layers_that_pictures_decide_lose_less(tmp_path):
    images, fresh = [pictures(24, seed) for seed in range(3)], pictures(16, 9)
    expected, differences = live_e2far(WIDTH)(fresh), {}
    for name, known in (("data", images), ("weights", None)):
        network = live_e2far(WIDTH)
        lost = reduce_layers(network, 20, known)
        assert set(lost) == {"identity.0", "identity.2", "expression.0", "expression.2"}
        assert all(0 < share < 1 for share in lost.values())
        differences[name] = (network(fresh) - expected).abs().mean().item()
    assert 0 < differences["data"] < 0.7 * differences["weights"]
    # It is a state dict that a fresh network adapts to, width and ranks.
    again = E2far()
    again.adapt_to(network.state_dict())
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(fresh), network(fresh))
    assert reduce_layers(network, 20) == {}
