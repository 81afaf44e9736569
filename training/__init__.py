"""Network definitions, UV layout, targets, losses and the training loop."""

import runtime  # noqa: F401 - Ctrl-C during imports ends without a traceback
