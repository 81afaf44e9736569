"""The one exception that users see as a single line."""


class FaceMeshError(Exception):
    """Bad input or a missing part; the message is one line with place, problem and remedy.

    Command-line entry points print it after ``error:`` and exit with 1; a traceback is for bugs alone.
    """

    is_fatal = False  # True: no other picture can succeed in this process, for example on a failed GPU


def one_line(error: object, limit: int = 300) -> str:
    """Return the text of ``error`` with every run of white space as one space, cut to ``limit`` characters.

    Control characters and other ones that a terminal does not show stand as escapes.
    """
    return printable(" ".join(str(error).split())[:limit])


def printable(text: str) -> str:
    """Return ``text`` with escapes for characters that a terminal does not show or that steer it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def reason(error: Exception) -> str:
    """Return the cause that an error of a reader names, on one line: of an `OSError` without number and file."""
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__, 200)
