"""Measurements: accuracy, and latency beside the programs that people would use instead."""

import runtime  # noqa: F401 - Ctrl-C during imports ends without a traceback
