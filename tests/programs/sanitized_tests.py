"""``python -m tests.programs.sanitized_tests MODULE.so ARGUMENTS``: pytest over another build of runtime._native.

``make sanitize`` runs the tests of the native functions so, over a build with AddressSanitizer and
UndefinedBehaviourSanitizer. Either ends the process at the first fault.
"""

from __future__ import annotations

import importlib.util
import sys

import pytest

NAME = "runtime._native"


def main(module: str, arguments: list[str]) -> int:
    """Load ``module`` in place of the installed one and run pytest."""
    import runtime

    spec = importlib.util.spec_from_file_location(NAME, module)
    native = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = native
    spec.loader.exec_module(native)
    runtime._native = native
    return pytest.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
