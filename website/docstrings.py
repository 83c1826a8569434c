"""Docstrings for the site: names in backticks become links, and formulas stand one below another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import griffe

NAME = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)*)`(?!`)")
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.S)
BREAK = re.compile(
    r"(?P<formula>,?\s*\\qquad|,\s*\\quad)|(?P<line>\n\s*(?=[+\-=]))"
    r"|(?P<up>\{|\\left\b)|(?P<down>\}|\\right\b)"
)
RELATION = re.compile(r"(?<![\\&])(=|\\(?:leftarrow|le|ge|approx|propto|sim|in)\b)")

Resolve = Callable[[str], str | None]
"""From a name, as a docstring writes it, to the path of what it means; ``None`` if that is not known."""


class SiteDocstrings(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Go through all that a package holds."""
        for each in within(pkg):
            if each.docstring is not None:
                each.docstring.value = rewritten(each.docstring.value, partial(path_of, where=each))


def within(holder: griffe.Module | griffe.Class) -> Iterator[griffe.Object]:
    """A module or class, and all that is defined in it, in turn."""
    yield holder
    for member in holder.members.values():
        if isinstance(member, griffe.Module | griffe.Class):
            yield from within(member)
        elif isinstance(member, griffe.Object):
            yield member


def path_of(name: str, where: griffe.Object) -> str | None:
    """The path of what a name means in the docstring of an object; ``None`` if that is not known there."""
    if name.startswith(("mltk.", "mltk_backends.")):
        return name
    first, _, rest = name.partition(".")
    try:
        path = where.resolve(first)
    except griffe.NameResolutionError:
        return None
    return f"{path}.{rest}" if rest else path


def rewritten(text: str, resolve: Resolve) -> str:
    """A docstring with links, and with its formulas one below another."""
    text = DISPLAY.sub(lambda found: f"$${one_below_another(found[1])}$$", text)
    return NAME.sub(lambda found: link(found[1], resolve), text)


def link(name: str, resolve: Resolve) -> str:
    """A name in backticks that leads to its documentation, if it has any."""
    path = resolve(name)
    return f"`{name}`" if path is None else f'<autoref optional identifier="{path}">`{name}`</autoref>'


def one_below_another(formula: str) -> str:
    r"""Displayed formulas that are written in a row, or over several lines, as rows that are aligned.

    They are parted at ``\qquad``, at ``\quad`` behind a comma, and where a line of the source starts with a
    sign, but not in braces.
    """
    if r"\begin" in formula or r"\\" in formula:
        return formula
    rows, start, depth = [], 0, 0
    continued = False
    for found in BREAK.finditer(formula):
        depth += bool(found["up"]) - bool(found["down"])
        if depth == 0 and (found["formula"] or found["line"]):
            rows.append(row(formula[start : found.start()], continued) + ("," if "," in found[0] else ""))
            start, continued = found.end(), bool(found["line"])
    rows.append(row(formula[start:], continued))
    if len(rows) == 1:
        return formula
    return r"\begin{aligned}" + "\n" + " \\\\\n".join(rows) + "\n" + r"\end{aligned}"


def row(formula: str, continued: bool) -> str:
    """A row, aligned at its relation; one that continues a formula starts there."""
    formula = formula.strip()
    if continued:
        return f"&{formula}" if formula.startswith("=") else rf"&\quad {formula}"
    outside = re.sub(r"\{[^{}]*\}", lambda found: "_" * len(found[0]), formula)
    found = RELATION.search(outside)
    return f"&{formula}" if found is None else f"{formula[: found.start()]}&{formula[found.start() :]}"
