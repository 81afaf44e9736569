"""The model that ``python -m export onnx`` begins with: a checkpoint, a file that is ONNX, or random weights."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from runtime.errors import FaceMeshError
from runtime.models.file_kinds import ENGINE_SUFFIXES
from training.networks import NETWORK_NAMES

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from runtime.models.spec import ModelSpec


@dataclass
class OpenedModel:
    """A model before any change."""

    came: onnx.ModelProto  # as it came: the reference of all comparisons
    prepared: onnx.ModelProto  # the same under this house's rules
    heavy: dict[str, NDArray[np.float32]]  # see `export.graphs.heavy_weights`
    spec: ModelSpec
    network: nn.Module | None  # in PyTorch; None for ONNX files
    is_guessed: bool  # the form of the picture is that of --arch, and no file says so


def open_weights(args: argparse.Namespace) -> OpenedModel:
    """Open what ``--weights``, ``--untrained`` and ``--arch`` name, see `export.commands.onnx_command`."""
    if args.weights is None:
        return _untrained(args)
    suffix = args.weights.suffix.lower()
    if suffix == ".onnx":
        opened = _foreign(args)
    elif suffix in ENGINE_SUFFIXES:
        problem = "an engine by its name, from which no model can be made"
        raise FaceMeshError(f"{args.weights}: {problem}; give the .onnx that it was built from")
    else:
        opened = _checkpoint(args)
    changes = {"colour_order": args.colour_order, "value_range": args.value_range}
    given = {name: value for name, value in changes.items() if value is not None}
    if args.value_range is not None:
        given["value_range"] = tuple(args.value_range)
    if given and not opened.is_guessed:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        place = "the spec beside it" if args.weights else "--arch"
        raise FaceMeshError(f"{options}: {place} has it already; leave it out")
    opened.spec = dataclasses.replace(opened.spec, input=dataclasses.replace(opened.spec.input, **given))
    return opened


def _checkpoint(args: argparse.Namespace) -> OpenedModel:
    _require_arch(args, "which network are these weights of?")
    from export.checkpoints.checkpoint import load_checkpoint
    from export.checkpoints.whitening import give_whitening
    from export.graphs.network_spec import network_spec
    from export.graphs.to_onnx import to_light_onnx

    network = load_checkpoint(args.arch, args.weights)
    give_whitening(network, args.arch, args.weights, args.whitening)
    model, heavy = to_light_onnx(network, args.arch)
    return OpenedModel(model, model, heavy, network_spec(network, args.arch), network, is_guessed=True)


def _untrained(args: argparse.Namespace) -> OpenedModel:
    _require_arch(args, "which network is wanted?")
    from export.graphs.network_spec import network_spec
    from export.graphs.to_onnx import to_light_onnx
    from training.networks.untrained import untrained_network

    network = untrained_network(args.arch)
    model, heavy = to_light_onnx(network, args.arch)
    spec = dataclasses.replace(network_spec(network, args.arch), untrained=True)
    return OpenedModel(model, model, heavy, spec, network, is_guessed=False)


def _require_arch(args: argparse.Namespace, question: str) -> None:
    if args.arch is None:
        place = args.weights or "--untrained"
        raise FaceMeshError(f"{place}: {question} Add --arch {{{','.join(NETWORK_NAMES)}}}")


def _foreign(args: argparse.Namespace) -> OpenedModel:
    """Open an ONNX file. Sizes and layout are the graph's; ``--arch`` says the rest if there is no spec beside it."""
    from export.graphs.model_file import derive_spec, load_onnx
    from runtime.models.spec import ModelSpec, load_spec

    beside = load_spec(args.weights) if ModelSpec.path_for(args.weights).is_file() else None
    like = None if args.arch is None else _spec_of_arch(args.arch)
    came, model = load_onnx(args.weights, beside or like)
    spec = derive_spec(model, args.weights, like)
    if beside is None:
        spec = _with_own_range(_with_whitening(spec, args), came)
    elif args.whitening is not None:
        problem = "the spec beside it has mean and std of its numbers"
        raise FaceMeshError(f"{args.weights}: {problem}; leave --whitening {args.whitening} out")
    return OpenedModel(came, model, {}, spec, None, is_guessed=beside is None)


def _spec_of_arch(arch: str) -> ModelSpec:
    """Return the spec of a network, without the whitening that its weights would bring."""
    from export.graphs.network_spec import network_spec
    from training.networks.coefficients import CoefficientNetwork, Whitening
    from training.networks.forms import FORMS

    form = FORMS[arch]()
    if isinstance(form, CoefficientNetwork):
        form.whitening = Whitening(np.zeros(form.count, np.float32), np.ones(form.count, np.float32))
    return network_spec(form, arch)


def _with_whitening(spec: ModelSpec, args: argparse.Namespace) -> ModelSpec:
    """Return the spec with mean and std of a coefficient network's numbers, from the file for them."""
    from export.checkpoints.whitening import read_whitening

    if spec.family != "coefficients":
        if args.whitening is not None:
            problem = f"--arch {args.arch} puts out a position map"
            raise FaceMeshError(f"--whitening {args.whitening}: {problem}; leave it out")
        return spec
    whitening = read_whitening(args.weights, args.whitening, spec.output.count)
    output = dataclasses.replace(spec.output, mean=tuple(whitening.mean.tolist()), std=tuple(whitening.std.tolist()))
    return dataclasses.replace(spec, output=output)


def _with_own_range(spec: ModelSpec, came: onnx.ModelProto) -> ModelSpec:
    """Return the spec with the values and the colours that the file's own normalisation takes."""
    from export.graphs.own_range import own_colour_order, own_value_range

    changes: dict[str, object] = {}
    own = own_value_range(came, spec.input.value_range)
    if own is not None:
        print(f"the file scales pictures itself: it takes {own[0]:g} to {own[1]:g}, not --arch {spec.name}'s range")
        changes["value_range"] = own
    order = own_colour_order(came)
    if order not in (None, spec.input.colour_order):
        print(f"the file subtracts means of {order}: it takes {order}, not --arch {spec.name}'s order")
        changes["colour_order"] = order
    return dataclasses.replace(spec, input=dataclasses.replace(spec.input, **changes))
