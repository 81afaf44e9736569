"""Fully connected layers of UH-E2FAR in low rank, without training it again.

    12,800 ─ 4096        becomes        12,800 ─ R ─ 4096

The R directions are those in which the layer's outputs vary most. What they vary by comes from pictures, or from the
weights alone, as if all inputs were independent and alike.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from training.networks.e2far import E2far, fully_connected, low_rank_layer, set_layer

HEADS = ("identity", "expression")


@torch.no_grad()
def reduce_layers(network: E2far, rank: int, images: Iterable[Tensor] | None = None) -> dict[str, float]:
    """Replace the large layers of ``network`` by two each, with ``rank`` numbers between.

    ``images`` are batches (B, 3, S, S) in the network's value range, more pictures than ``rank``; with None the weights
    alone decide. Return what each layer loses: the share of its outputs' variance over the pictures, or of the squares
    of its weights. Layers that are as small already stay.
    """
    inputs = None if images is None else _head_inputs(network, images)
    lost = {}
    for name, layer in fully_connected(network).items():
        head, _, place = name.partition(".")
        if min(layer.in_features, layer.out_features) <= rank:
            continue
        x = None if inputs is None else _before(network.get_submodule(head), int(place), inputs[head])
        small, lost[name] = low_rank(layer, rank, x)
        set_layer(network, name, small)
    return lost


def low_rank(layer: nn.Linear, rank: int, inputs: Tensor | None) -> tuple[nn.Sequential, float]:
    """Return a layer in two parts and the share that it loses.

    With inputs (N, I): y is projected on the first principal components V of its values, y' = V Vᵀ (y - mean) + mean,
    which no other layer of this rank beats in the mean square over these inputs. Without: of the weights.
    """
    if inputs is None:
        directions, share = _largest(layer.weight)
        mean = layer.bias
    else:
        outputs = layer(inputs)
        mean = outputs.mean(0)
        directions, share = _largest((outputs - mean).T)
    directions = directions[:, :rank]
    small = low_rank_layer(layer.in_features, rank, layer.out_features)
    small[0].weight.copy_(directions.T @ layer.weight)
    small[1].weight.copy_(directions)
    small[1].bias.copy_(mean + directions @ (directions.T @ (layer.bias - mean)))
    return small, float(share[rank:].sum())


def _largest(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return left singular vectors (O, K) of columns (O, N), the largest first, and their shares of all squares."""
    rows, count = columns.shape
    if rows <= count:
        squares, vectors = torch.linalg.eigh(columns @ columns.T)
        squares, vectors = squares.flip(0), vectors.flip(1)
    else:  # the smaller of the two matrices of products
        squares, right = torch.linalg.eigh(columns.T @ columns)
        squares, right = squares.flip(0), right.flip(1)
        vectors = torch.nn.functional.normalize(columns @ right, dim=0)
    squares = squares.clamp_min(0)
    return vectors, squares / squares.sum().clamp_min(1e-30)


def _head_inputs(network: E2far, images: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return what the first layers of the heads see, (N, 12800) each."""
    found: dict[str, list[Tensor]] = {head: [] for head in HEADS}
    for batch in images:
        for head, features in zip(HEADS, network.head_inputs(*network.trunk(batch)), strict=True):
            found[head].append(features)
    return {head: torch.cat(parts) for head, parts in found.items()}


def _before(layers: nn.Sequential, place: int, x: Tensor) -> Tensor:
    for layer in layers[:place]:
        x = layer(x)
    return x
