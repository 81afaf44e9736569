"""Types of command-line arguments."""

from __future__ import annotations

import argparse

import pytest

from runtime.console.arguments import (
    address,
    not_empty,
    positive_int,
    positive_number,
    probability,
    share,
    share_below_one,
    whole_number,
)


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (positive_int, "12", 12),
        (whole_number(0, 5), "0", 0),
        (whole_number(0, 5), "5", 5),
        (positive_number, "0.5", 0.5),
        (share, "2%", 0.02),
        (share, "0.02", 0.02),
        (share, "0", 0),
        (share, "1000", 1000),
        (share_below_one, "10%", 0.1),
        (probability, "0.25", 0.25),
        (probability, "0", 0.0),
        (probability, "1", 1.0),
        (not_empty, "a", "a"),
    ],
)
def test_values(convert, text, value):
    assert convert(text) == pytest.approx(value) if isinstance(value, float) else convert(text) == value


@pytest.mark.parametrize(
    ("convert", "texts"),
    [
        (positive_int, ("0", "-1", "1.5", "one", "")),
        (whole_number(1, 5), ("0", "6", "-1", "1.0", "")),
        (positive_number, ("0", "-1", "nan", "inf", "one")),
        (share, ("-1", "-5%", "nan", "inf", "%", "ten")),
        (share_below_one, ("1", "100%", "-5%", "nan")),
        (probability, ("-0.1", "1.01", "nan", "inf", "half", "50%", "")),
        (not_empty, ("",)),
    ],
)
def test_refusals(convert, texts):
    for text in texts:
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            convert(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8088", ("127.0.0.1", 8088)),
        (":8088", ("127.0.0.1", 8088)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("host:65535", ("host", 65535)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text, expected):
    assert address("127.0.0.1")(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host:", "0", "65536", "-1", "host:8o", "::1:80", "1.5", "١"])
def test_addresses_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError):
        address("127.0.0.1")(text)


def test_port_zero_where_it_is_allowed():
    assert address("127.0.0.1", least_port=0)("0") == ("127.0.0.1", 0)
