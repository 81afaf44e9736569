"""The slow road: checkpoint to ONNX and its spec, and from there to engines for one kind of device."""

import runtime  # noqa: F401 - Ctrl-C during imports ends without a traceback
