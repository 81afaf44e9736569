"""Every argument of every command has a help text, and tells its default if it has one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

import benchmarks.__main__
import calibration.__main__
import calibration.pack
import export.__main__
import runtime.run
import runtime.swap
import training.__main__


def command_parsers(monkeypatch) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of every program, caught as it would read its arguments."""
    found = {}

    def catch(parser, *_):
        found[parser.prog] = parser
        raise SystemExit(0)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", catch)
    modules = (runtime.run, runtime.swap, calibration.__main__, calibration.pack)
    for module in (*modules, export.__main__, training.__main__, benchmarks.__main__):
        with pytest.raises(SystemExit):
            module.main([])
    return found


def with_subcommands(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, inner in action.choices.items():
                yield from with_subcommands(f"{name} {command}", inner)


def fault(parser: argparse.ArgumentParser, action: argparse.Action) -> str | None:
    if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) or action.help is argparse.SUPPRESS:
        return None
    if not action.help:
        return "no help"
    has_default = action.default not in (None, argparse.SUPPRESS, False, True) and action.default not in ([], {}, ())
    tells = "default" in action.help or "(" in action.help or parser.formatter_class is Defaults
    return "no default" if has_default and action.nargs != 0 and not action.required and not tells else None


Defaults = argparse.ArgumentDefaultsHelpFormatter


def test_help_texts(monkeypatch):
    programs = command_parsers(monkeypatch)
    assert len(programs) == 7
    faults = {}
    for program, parser in programs.items():
        for name, inner in with_subcommands(program, parser):
            for action in inner._actions:
                if problem := fault(inner, action):
                    faults[f"{name} {(action.option_strings or [action.dest])[0]}"] = problem
    assert faults == {}


def test_help_of_every_command_can_be_printed(monkeypatch):
    """A percent sign that is not doubled ends a help text with a traceback."""
    for program, parser in command_parsers(monkeypatch).items():
        for _, inner in with_subcommands(program, parser):
            assert inner.format_help()
