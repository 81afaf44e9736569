"""Live outputs of a run: the viewer and the avatar's protocol, and their options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from runtime.console.arguments import address, not_empty
from runtime.console.terminal import print_line
from runtime.outputs.sinks import Sink
from runtime.outputs.vmc import VmcSink
from runtime.types import FaceMesh, Frame, MeshTopology
from runtime.viewer.newest import Newest
from runtime.viewer.server import ViewerServer
from runtime.viewer.stage_clock import StageClock

LOCAL = "127.0.0.1"
DEFAULT_PORT = 8088


class ViewerSink:
    """Sink that shows every frame in a browser."""

    def __init__(self, topology: MeshTopology, host: str, port: int, token: str | None, clock: StageClock) -> None:
        """Start the server and print its address; raises `FaceMeshError` if the address cannot be used."""
        self._clock = clock
        self._newest = Newest(topology)
        self._server = ViewerServer(self._newest, host, port, token)
        print_line(f"viewer: {self._server.url}")

    def write(self, frame: Frame, faces: Sequence[FaceMesh]) -> None:
        """Show one frame without waiting for anybody."""
        self._newest.show(frame, faces, self._clock)
        self._clock.frame_done()

    def close(self) -> None:
        """Stop the server."""
        self._server.close()


def add_live_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    serve_help = f"show stream, mesh and times in a browser; default: {LOCAL}:{DEFAULT_PORT}, port 0: any free one"
    parser.add_argument(
        "--serve",
        nargs="?",
        type=address(LOCAL, least_port=0),
        const=(LOCAL, DEFAULT_PORT),
        metavar="[HOST:]PORT",
        help=serve_help,
    )
    token_help = "that the viewer asks for (default: none on 127.0.0.1, a new one on other addresses)"
    parser.add_argument("--serve-token", type=not_empty, metavar="TOKEN", help=token_help)
    osc_help = "send head and blendshapes of one face to an avatar, VMC protocol over UDP; port 39539 is usual"
    parser.add_argument("--osc", type=address(LOCAL), metavar="HOST:PORT", help=osc_help)


def open_live_sinks(args: argparse.Namespace, topology: MeshTopology, clock: StageClock) -> Iterator[Sink]:
    """Open the sinks that the options ask for; raises `FaceMeshError` for an address that cannot be used."""
    if args.osc is not None:
        yield VmcSink(*args.osc)
    if args.serve is not None:
        host, port = args.serve
        yield ViewerSink(topology, host, port, args.serve_token, clock)
