"""Arrays whose entries are not simply their numbers: masked, sparse, nested, quantised. They are refused."""

from __future__ import annotations

from typing import Any

from mltk.errors import ArrayError

PECULIAR = {
    "MaskedArray": "a masked array; expected a plain one, with what is masked left out or filled in",
    "matrix": "a numpy.matrix, whose products are not those of arrays; expected numpy.asarray(…) of it",
}
"""Kinds of NumPy arrays that are refused."""


def check_plain(argument: str, value: Any) -> None:
    """Raise `ArrayError` for an array of such a kind.

    Args:
        argument: The name of the argument that it came in.
        value: Anything; what is no array at all passes.
    """
    for kind in type(value).__mro__:
        if kind.__name__ in PECULIAR and kind.__module__.partition(".")[0] == "numpy":
            raise ArrayError(f"{argument} is {PECULIAR[kind.__name__]}")
    if getattr(value, "is_nested", False):
        raise ArrayError(f"{argument} is a nested tensor; expected a plain one, of tasks with equal shapes")
    if getattr(value, "is_quantized", False):
        raise ArrayError(f"{argument} is a quantised tensor; expected a plain one, as from .dequantize()")
    layout = str(getattr(value, "layout", "strided")).rpartition(".")[2].removeprefix("_")
    if layout != "strided":
        raise ArrayError(
            f"{argument} is a tensor of layout {layout}; expected a plain one, as from .to_dense()"
        )
