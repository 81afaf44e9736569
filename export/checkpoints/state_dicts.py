"""Find the weights of a network in the checkpoints of training programs: `weights_of_network`.

A checkpoint may hold several state dicts, nested (``model``, ``state_dict``, ``ema``), with names behind prefixes
(Lightning's ``model.``, ``module.`` and ``_orig_mod.`` of wrappers). No list of programs decides: the mapping and the
prefix win that have the most names of the network; among equals the moving average of the weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEEPEST = 4  # level of mappings that are searched
WRAPPERS = re.compile(r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGE = re.compile(r"(^|[._])(ema|averaged?|avg|swa|shadow)([._]|$)")
COUNTERS = ("n_averaged",)  # of averages, beside the weights
BUFFERS = ("running_mean", "running_var")  # moving averages already: averages of weights often leave them out
OWN = "network"  # key of this project's checkpoints


@dataclass(frozen=True)
class Found:
    """A state dict in a checkpoint."""

    place: str  # keys and prefix of names on the way to it, with dots; empty for the checkpoint itself
    state: dict[str, Any]  # by the network's names
    known: int  # names in it that the network has
    left_out: tuple[str, ...] = ()  # names beside the prefix

    @property
    def is_average(self) -> bool:
        """True for averages of weights over training, by their place."""
        return bool(AVERAGE.search(self.place.lower()))


def weights_of_network(
    content: Mapping[str, Any],
    wanted: Collection[str],
    rename: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> tuple[dict[str, Any], str]:
    """Return the state dict in ``content`` that belongs to a network, and a remark on the choice, empty for none.

    ``wanted`` are the names of the network, ``rename`` turns those of other programs into them. The state dict is empty
    if no mapping has any. Raises `ValueError` for two tensors of one name.
    """
    found = [one for place, mapping in _mappings(content) for one in _readings(place, mapping, set(wanted), rename)]
    best = max((one.known for one in found), default=0)
    if not best:
        return {}, ""
    full = [one for one in found if one.known == best]
    plain = min((one for one in full if not one.is_average), key=_rank, default=None)
    average = next((one for one in full if one.is_average), None)
    base = None
    if average is None and plain is not None:
        needed = {name for name in plain.state if name.rpartition(".")[2] not in (*BUFFERS, "num_batches_tracked")}
        average = next((one for one in found if one.is_average and needed <= one.state.keys()), None)
        base = plain if average else None
    chosen = average or plain
    state = chosen.state if base is None else {**base.state, **chosen.state}
    return state, _remark(chosen, base, [one for one in full if one is not chosen and one is not base])


def _mappings(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the mapping and all mappings in it, each once, with their places."""
    todo: list[tuple[str, Mapping[str, Any], int]] = [("", content, 0)]
    seen = {id(content)}
    while todo:
        place, mapping, depth = todo.pop(0)
        yield place, mapping
        for key, value in mapping.items():
            if isinstance(key, str) and isinstance(value, Mapping) and depth < DEEPEST and id(value) not in seen:
                seen.add(id(value))
                todo.append((f"{place}{key}.", value, depth + 1))


def _readings(
    place: str, mapping: Mapping[str, Any], wanted: set[str], rename: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Iterator[Found]:
    """Yield a mapping under each prefix of its names that leads to names of the network."""
    texts = {name: value for name, value in mapping.items() if isinstance(name, str)}
    plain = {WRAPPERS.sub("", name): value for name, value in texts.items()}
    endings = {name.rpartition(".")[2] for name in wanted}
    for prefix in sorted(_prefixes(plain, wanted, endings)):
        inside = {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}
        state = dict(rename({name: value for name, value in inside.items() if name not in COUNTERS}))
        if known := len(wanted & state.keys()):
            if len(plain) < len(texts):
                raise ValueError("tensors both with and without 'module.' or another wrapper before the same name")
            left_out = tuple(name for name in plain if not name.startswith(prefix) and name not in COUNTERS)
            rest = {name: value for name, value in mapping.items() if not isinstance(name, str)} if not prefix else {}
            yield Found(f"{place}{prefix}", state | rest, known, left_out)


def _prefixes(names: Collection[str], wanted: set[str], endings: set[str]) -> set[str]:
    """Return the prefixes before names of the network, the empty one too."""
    found = {""}
    for name in names:
        if name.rpartition(".")[2] not in endings:
            continue
        parts = name.split(".")
        for first in range(1, len(parts)):
            if ".".join(parts[first:]) in wanted:
                found.add(".".join(parts[:first]) + ".")
    return found


def _rank(found: Found) -> tuple[bool, int]:
    """Order plain state dicts: this project's own first, then the shortest way."""
    return found.place != f"{OWN}.", found.place.count(".")


def _remark(chosen: Found, base: Found | None, others: list[Found]) -> str:
    """Name the weights taken if there was a choice."""
    parts = [f"the weights in {_name(chosen)} are taken"]
    if base is not None:
        parts.append(f"statistics of normalisations from {_name(base)}")
    if others:
        parts.append(f"not those in {', '.join(map(_name, others[:5]))}")
    if chosen.left_out:
        shown = ", ".join(repr(name)[1:-1][:80] for name in chosen.left_out[:3])
        parts.append(f"{len(chosen.left_out)} other names are left out ({shown}{' …' * (len(chosen.left_out) > 3)})")
    return "; ".join(parts) if len(parts) > 1 else ""


def _name(found: Found) -> str:
    return repr(found.place.rstrip("."))[1:-1] or "the file itself"
