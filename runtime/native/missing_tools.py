"""Tell in one line which packages of Debian and Ubuntu the build lacks: run by ``make`` before anything else.

It is a script for any Python 3 and imports nothing of the project.
"""

import os
import shutil
import sys
import sysconfig
from importlib.util import find_spec

OLDEST, NEWEST = (3, 10), (3, 13)


def missing_packages():
    """Return the names of the packages, such as python3.12-venv; empty if all is there."""
    name = "python3" if sys.executable.startswith("/usr/bin/") else f"python{sys.version_info[0]}.{sys.version_info[1]}"
    found = []
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        found.append(f"{name}-venv")
    if not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")):
        found.append(f"{name}-dev")
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))):
        found.append("g++")
    return found


def main():
    """Return an error in one line, None if nothing is missing."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        have = f"this is {sys.version_info[0]}.{sys.version_info[1]}"
        return f"error: Python 3.10 to 3.13 is needed, {have}: make PYTHON=python3.12 ..."
    packages = " ".join(missing_packages())
    return f"error: the build needs {packages}: sudo apt install {packages}" if packages else None


if __name__ == "__main__":
    sys.exit(main())
