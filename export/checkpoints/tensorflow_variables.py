"""Choose the variables of a network among all of a TensorFlow checkpoint: `choose_variables`.

Optimisers keep slots beside each variable, named VARIABLE/Adam, VARIABLE/Momentum, VARIABLE/RMSProp_1 and so on, with
or without a scope before them. ``tf.train.ExponentialMovingAverage`` keeps VARIABLE/ExponentialMovingAverage.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

AVERAGE = "ExponentialMovingAverage"
STATISTICS = ("moving_mean", "moving_variance")  # averages themselves
Shape = tuple[int, ...]


def choose_variables(
    stored: Mapping[str, Shape], wanted: Collection[str]
) -> tuple[dict[str, str], tuple[str, ...], str]:
    """Return stored name by wanted name, the names that belong to no variable of the network, and a remark.

    Averages of weights are taken where every weight has one. ``stored`` are name -> shape. Numbers without an axis
    (steps, rates) are training state.
    """
    names = set(wanted)
    chosen = {name: name for name in wanted if name in stored}
    owners = {name: _owner(name, names) for name in stored if name not in names}
    others = tuple(name for name, owner in owners.items() if owner is None and stored[name])
    averages = {owner: name for name, owner in owners.items() if owner and name.endswith(f"{owner}/{AVERAGE}")}
    averages = {name: place for name, place in averages.items() if stored[place] == stored.get(name, stored[place])}
    weights = {name for name in names if name.rpartition("/")[2] not in STATISTICS}
    if not averages:
        return chosen, others, ""
    if missing := weights - averages.keys():
        return chosen, others, f"the weights are taken; {len(missing)} of {len(weights)} have no {AVERAGE}"
    return chosen | averages, others, f"the {AVERAGE} of the weights is taken, not the weights themselves"


def _owner(name: str, variables: Collection[str]) -> str | None:
    """Return the variable with the slot ``name``, None for no slot: VARIABLE/SLOT, SCOPE/VARIABLE/SLOT."""
    parts = name.split("/")
    for end in range(len(parts) - 1, 0, -1):
        for start in range(end):
            if (owner := "/".join(parts[start:end])) in variables:
                return owner
    return None
