"""Load the compiled module ``runtime._native``; everybody imports ``native`` from here."""

from __future__ import annotations

try:
    from runtime import _native as native
except ImportError as error:  # a source folder hides a package that was installed without -e
    if error.name not in (None, "runtime", "runtime._native"):
        raise
    import runtime

    raise ImportError(
        f"{runtime.__path__[0]}: the compiled module is not installed for this folder; "
        "run pip install -e '.[cpu]' beside it"
    ) from None

__all__ = ["native"]
