"""Exit codes of all commands of the project, and the one line on stderr for an error."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from runtime.console.early_interrupt import restore_interrupt
from runtime.console.extras import EXTRA_OF, remedy
from runtime.console.stop_signals import Terminated, TerminationHandler
from runtime.errors import FaceMeshError, printable, reason

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


def run_subcommands(package: str, description: str, modules: Sequence[ModuleType], argv: Sequence[str] | None) -> int:
    """Run the command line ``argv`` of ``python -m PACKAGE COMMAND …`` and return the exit code.

    Every module has a function ``add_parser(subparsers)`` that sets ``func``; None takes the arguments of the process.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=description)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in modules:
        module.add_parser(subparsers)

    def parse_and_run() -> int | None:
        args = parser.parse_args(argv)
        return args.func(args)

    return exit_code_of(parse_and_run)


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Call ``command`` and return its exit code (None is 0).

    `FaceMeshError`, a missing optional library, a lack of memory and a failure of the system become ``error: ...`` and
    1, Ctrl-C, SIGTERM and SIGHUP become one line and 130, 143 or 129, a reader of the output that went away
    (``| head``) becomes 141. Anything else is a bug and keeps its traceback.
    """
    restore_interrupt()
    _replace_closed_outputs()
    _encode_anything()
    try:
        with _interruptions_in_imports(), TerminationHandler(), _flushed_output():
            return command() or 0
    except FaceMeshError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        library = (error.name or "").split(".")[0]
        if library not in EXTRA_OF:
            raise
        print(f"error: this needs {library}, which is not installed: {remedy(library)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _forget_output()
        return 141
    except OSError as error:
        _forget_output()
        print(f"error: {printable(_system_failure(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interruption:
        print("stopped; what was finished is kept", file=sys.stderr)
        return 128 + (interruption.number if isinstance(interruption, Terminated) else signal.SIGINT)
    except Exception as error:
        if not lacks_memory(error):
            raise
        print("error: there is not enough memory; close other programs, or ask for less at once", file=sys.stderr)
        return 1


@contextlib.contextmanager
def _interruptions_in_imports() -> Iterator[None]:
    """Let Ctrl-C through that came while a compiled module started, which makes an `ImportError` of it."""
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, ImportError) and isinstance(link.__cause__, KeyboardInterrupt):
                raise link.__cause__ from None
            link = link.__cause__ or link.__context__
        raise


def lacks_memory(error: BaseException) -> bool:
    """Tell whether an exception, also one of OpenCV, says that there is no more memory."""
    if isinstance(error, SystemError) and error.__cause__ is not None:  # OpenCV's bindings wrap it so
        error = error.__cause__
    opencv = sys.modules.get("cv2")
    if opencv is not None and isinstance(error, opencv.error):
        return bool(error.code == opencv.Error.StsNoMem)
    return isinstance(error, MemoryError)


def _system_failure(error: OSError) -> str:
    if error.errno in NO_ROOM:
        return f"nothing more can be written ({reason(error)}); make room"
    place = "input or output" if error.filename is None else error.filename
    return f"{place}: {reason(error)}; check files, folders and disks"


def _replace_closed_outputs() -> None:
    """Send what is for a closed stdout or stderr to nowhere; files opened later would get their descriptors."""
    if sys.stdout is not None and sys.stderr is not None:
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _encode_anything() -> None:
    """Let outputs that know ASCII or Latin alone show ? for other characters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


@contextlib.contextmanager
def _flushed_output() -> Iterator[None]:
    """Write what is buffered before Python's own end does, which would answer a broken pipe with a traceback."""
    try:
        yield
    finally:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()


def _forget_output() -> None:
    """Let Python write what is left in the buffers of broken outputs to nowhere."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except OSError:
                with open(os.devnull, "wb") as nothing:
                    os.dup2(nothing.fileno(), stream.fileno())
