"""``python -m training fit-eyes``: make the network that reads the opening of the eyes from the picture.

It learns from photographs with 68 points by hand: gap between the lids over the width of the eye, in patches that the
landmarks of the shipped model cut out, of faces turned by up to 35°. The result is the runtime's eye_opening.npz.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from runtime.console.arguments import not_empty, whole_number
from runtime.errors import FaceMeshError, reason
from runtime.inference.open_runner import open_runner
from runtime.models.shipped import EYE_OPENING
from runtime.pipeline import FaceMeshPipeline
from runtime.storage.bounded_files import file_length, open_bounded
from runtime.storage.npz_files import read_npz
from runtime.storage.picture_tar import beside, read_tar, tar_members
from runtime.storage.whole_files import file_sha256, whole_file
from training.data.labels import JpegImages
from training.eyes.eye_samples import EyeSamples, eye_samples
from training.labelling.hand_labels import HandLabels, read_hand_labels

LEAST_EYES = 20
MOST_COPIES = 100
MOST_SEED = 2**32 - 1


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser("fit-eyes", help="fit the network of eye openings", description=__doc__)
    add = parser.add_argument
    hand_help = "labels with hand68, visible68 and is_val (.npz) and their pictures (.tar), by their common stem"
    add("--hand", type=Path, required=True, metavar="STEM", help=hand_help)
    add("--model", type=Path, metavar="MODEL", help="network that finds the landmarks (default: the shipped one)")
    copies = whole_number(0, MOST_COPIES)
    add("--copies", type=copies, default=3, metavar="N", help="moved copies of every training eye (default: 3)")
    add("--seed", type=whole_number(0, MOST_SEED), default=0, help="of copies and training (default: 0)")
    output = {"type": lambda text: Path(not_empty(text)), "required": True, "metavar": "FILE.npz"}
    add("-o", "--output", **output, help="the network")
    add("--report", type=Path, metavar="FILE.json", help="write errors on validation eyes, beside those of the shipped")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> None:
    """Read, fit, judge, write."""
    for path in (args.output, args.report):
        if path is not None and not path.absolute().parent.is_dir():
            raise FaceMeshError(f"{path}: there is no folder {path.parent}; create it or choose another place")
    samples = _samples(args)
    from training.eyes.eye_network import fit_network, judge_network

    arrays = fit_network(samples, args.seed)
    shipped = read_npz(EYE_OPENING, tuple(arrays), what="the network of eye openings")
    results = {"fitted": judge_network(arrays, samples), "shipped": judge_network(shipped, samples)}
    with whole_file(args.output) as file:
        np.savez_compressed(file, **arrays)
    if args.report is not None:
        facts = {"data": args.hand.name, "sha256": file_sha256(beside(args.hand, ".npz")), "seed": args.seed}
        facts |= {"copies": args.copies, "training_eyes": int((~samples.is_val).sum())}
        with whole_file(args.report) as file:
            file.write((json.dumps({**facts, **results}, indent=1) + "\n").encode())
    for name, result in results.items():
        print(
            f"{name}: r {result['correlation']:.3f}, mean error {result['mean_error']:.3f} on {result['eyes']} eyes; "
            f"{result['closed_found']} of {result['closed']} closed eyes found, "
            f"{result['open_taken_for_closed']} of {result['open']} open ones taken for closed"
        )
    print(f"{args.output}: written")


def _samples(args: argparse.Namespace) -> EyeSamples:
    labels, images = _labelled_pictures(args.hand)
    with open_runner(args.model) as runner:
        samples = eye_samples(FaceMeshPipeline(runner, dense=False), labels, images, args.copies, args.seed)
    if min(np.count_nonzero(~samples.is_val), np.count_nonzero(samples.is_val)) < LEAST_EYES:
        fault = f"not {LEAST_EYES} eyes for training and {LEAST_EYES} for validation (is_val)"
        raise FaceMeshError(f"{args.hand}: {fault}; give more nearly frontal faces with visible eyes")
    return samples


def _labelled_pictures(stem: Path) -> tuple[HandLabels, JpegImages]:
    """Return the labels whose pictures lie beside them: others may be part of a set of their own."""
    labels, archive = read_hand_labels(stem, {}), beside(stem, ".tar")
    try:
        with open_bounded(archive) as file:
            there = {name for name, _ in tar_members(file, file_length(file))}
    except (OSError, ValueError) as error:
        raise FaceMeshError(f"{archive}: cannot be read as a tar archive ({reason(error)}); copy it again") from None
    labels = labels.select(np.isin(labels.names, list(there)))
    if not len(labels):
        raise FaceMeshError(f"{archive}: holds no picture that {stem.name} names; labels and archive belong together")
    pictures = read_tar(archive, labels.names.tolist())
    return labels, JpegImages(labels.names, labels.size, [pictures[name] for name in labels.names])
