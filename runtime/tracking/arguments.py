"""Options of tracking and smoothing on the command line."""

from __future__ import annotations

import argparse

from runtime.console.arguments import positive_number
from runtime.tracking.options import USUAL_FILTER, OneEuro, Smoothing, Tracking

DEFAULT = Tracking()


def add_tracking_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    add, points = parser.add_argument, USUAL_FILTER
    on_off = argparse.BooleanOptionalAction
    add("--track", action=on_off, help="follow faces from frame to frame (default: on for films and cameras)")
    redetect_help = f"look for newcomers so often while everybody is tracked (default: {DEFAULT.redetect_s:g})"
    add("--redetect", type=positive_number, default=DEFAULT.redetect_s, metavar="SECONDS", help=redetect_help)
    add("--smooth", action=on_off, help="One-Euro filters on what is tracked (default: on where it is tracked)")
    cutoff_help = f"of the filters at rest; lower: less jitter (default: {points.cutoff_hz:g})"
    add("--smooth-cutoff", type=positive_number, default=points.cutoff_hz, metavar="HZ", help=cutoff_help)
    beta_help = f"growth of the cutoff with speed; higher: less lag (default: {points.beta:g})"
    add("--smooth-beta", type=positive_number, default=points.beta, metavar="BETA", help=beta_help)


def tracking_problem(args: argparse.Namespace) -> str | None:
    """Return what contradicts itself in the options, None if nothing does."""
    if args.track is False and args.smooth:
        return "--smooth filters what is tracked; leave out --no-track or --smooth"
    if args.track and args.boxes is not None:
        return "--track finds the boxes of the next frame itself; leave out --track or --boxes"
    if args.track and args.detector == "none":
        return "--track follows faces in films; leave it out where every picture is cut round one face"
    return None


def tracking_of(args: argparse.Namespace, is_film: bool) -> Tracking | None:
    """Return the settings that the options ask for; ``is_film``: the source has frames that follow each other."""
    if args.detector == "none" or args.boxes is not None or not (is_film if args.track is None else args.track):
        return None
    smoothing = None
    if args.smooth is not False:
        points = OneEuro(args.smooth_cutoff, args.smooth_beta, USUAL_FILTER.speed_cutoff_hz)
        smoothing = Smoothing(points=points)
    return Tracking(args.max_faces, args.redetect, smoothing)
