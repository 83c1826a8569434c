"""What is printed is the same on every machine but for the last digits of its numbers."""

import re

import pytest

NUMBER = re.compile(r"[-−+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


def same_text(found, expected):
    """Whether two texts are the same but for the last digits of their numbers."""
    if NUMBER.sub("#", found) != NUMBER.sub("#", expected):
        return False
    pairs = zip(NUMBER.findall(found), NUMBER.findall(expected), strict=True)
    return all(number(a) == pytest.approx(number(b), rel=0.02, abs=1e-9) for a, b in pairs)
