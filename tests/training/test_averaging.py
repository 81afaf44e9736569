"""The moving average is the formula of its docstring."""

from __future__ import annotations

import torch
from torch import nn

from training.averaging import averaged_model


def test_average_of_known_weights():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    averaged = averaged_model(network, 0.5)
    values, mean = [3.0, 5.0, -1.0, 4.0, 2.0, 7.0, 0.0, 1.0, 6.0, 2.0, 9.0, -3.0], None
    for step, value in enumerate(values):
        with torch.no_grad():
            network[0].weight.fill_(value)
            network[1].running_mean.fill_(10 * value)
        network[1].num_batches_tracked += 1
        averaged.update_parameters(network)
        keep = min(0.5, (step + 1) / (step + 10))
        mean = value if mean is None else keep * mean + (1 - keep) * value
    assert abs(averaged.module[0].weight.item() - mean) < 1e-5
    assert abs(averaged.module[1].running_mean.item() - 10 * mean) < 1e-4
    assert averaged.module[1].num_batches_tracked.item() == len(values)  # counters are taken over
    assert network[0].weight.item() == values[-1]
