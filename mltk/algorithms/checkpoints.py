"""Unrolling in little memory: few points of the descent are kept, and the rest is computed again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mltk.algorithms.unroll import InnerStep, Query, descend
from mltk.tree import Array


def unroll_from_checkpoints(step: InnerStep, start: Any, steps: int, query: Query) -> tuple[Array, Any]:
    """`mltk.algorithms.unroll.unroll`, bit for bit, with no more than one step linearised at a time."""
    end = descend(step, start, range(steps))
    value, adjoint = query(end)
    del end  # the way back descends to its points by itself
    for number, point in starts_backwards(step, start, range(steps)):
        _, pull_back = step(point, number, back=True)
        adjoint = pull_back(adjoint)
        del pull_back  # what it keeps must be gone before the next step is linearised
    return value, adjoint


def starts_backwards(step: InnerStep, start: Any, numbers: range) -> Iterator[tuple[int, Any]]:
    """Each step's number and where it starts, last step first, with few points kept in memory.

    Divide and conquer (Griewank 1992): descend two thirds of the way, do the rest first, and then the two
    thirds from the start again. Of n steps at most about log n points are kept at once; uneven parts keep
    fewer than halves do, for some more descents.

    Args:
        step: The step.
        start: Where the first one starts.
        numbers: Those of the steps.
    """
    if len(numbers) == 1:
        yield numbers[0], start
    elif numbers:
        far = 2 * len(numbers) // 3
        middle = descend(step, start, numbers[:far])
        yield from starts_backwards(step, middle, numbers[far:])
        del middle  # or it would be kept, a point more for each level, while the first part is done
        yield from starts_backwards(step, start, numbers[:far])
