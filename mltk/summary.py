"""Results in a few lines: as text, and as a table in notebooks."""

from __future__ import annotations

import html
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from mltk import tree
from mltk.plain import plain
from mltk.tree import Array, Tree

Lines = list[tuple[str, str]]
"""A name and what is said of it."""


class Summary(ABC):
    """An object that is shown by a title and a line for each thing worth knowing, never by its arrays."""

    @abstractmethod
    def summary(self) -> tuple[str, Lines]:
        """The title and the lines."""

    def __repr__(self) -> str:
        title, lines = self.summary()
        width = max((len(name) for name, _ in lines), default=0)
        return "\n".join([title, *(f"  {name:{width}}  {text}" for name, text in lines)])

    def _repr_html_(self) -> str:
        title, lines = self.summary()
        rows = "".join(
            f'<tr><th style="text-align: left">{html.escape(name)}</th>'
            f'<td style="text-align: left">{html.escape(text)}</td></tr>'
            for name, text in lines
        )
        caption = f'<caption style="text-align: left">{html.escape(title)}</caption>'
        return f"<table>{caption}<tbody>{rows}</tbody></table>"


class Told(Summary):
    """A dataclass that is shown so, and can be written as JSON.

    Attributes:
        tells: What is written: fields and properties; by default all fields.
    """

    tells: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """It in plain numbers, texts, lists and dicts; ``None`` for what is infinite, as JSON takes it."""
        if not self.tells:
            return dict(plain(self))
        return {name: plain(getattr(self, name)) for name in self.tells}


def array_in_words(array: Array) -> str:
    """Shape and dtype: ``"(4, 25, 1, 28, 28) float32"``."""
    return f"{tuple(array.shape)} {str(array.dtype).rpartition('.')[2]}"


def tree_in_words(values: Tree) -> str:
    """How many arrays and numbers there are: ``"6 arrays, 1,761 numbers"``."""
    leaves = tree.leaves(values)
    numbers = sum(math.prod(getattr(leaf, "shape", ())) for leaf in leaves)
    return f"{len(leaves)} array{'s' * (len(leaves) != 1)}, {numbers:,} number{'s' * (numbers != 1)}"
