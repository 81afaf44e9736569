"""Activation ranges, Q/DQ insertion, sensitivity and the accuracy gate of INT8 models."""

import runtime  # noqa: F401 - Ctrl-C during imports ends without a traceback
