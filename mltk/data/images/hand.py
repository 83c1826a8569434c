"""The hand: how drawings of one character differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mltk.data.images.strokes import SEGMENTS, STROKES, Plan, box
from mltk.data.keyed_random import Draws

MARGIN = 0.085
"""Share of the image on each side that the middle of the pen keeps off."""


def move(plan: Plan, draws: Draws, noise: float) -> Plan:
    """The plans as a hand carries them out: each stroke a little different in all that makes it up.

    Args:
        plan: Of the n drawings.
        draws: Streams of the n drawings.
        noise: How unsteady the hand is; 1 is that of a careful person.
    """

    def bell(deviation: float, *shape: int) -> np.ndarray:
        return np.float32(deviation * noise) * draws.bell(STROKES, *shape)

    shift = np.where(plan.length.sum(axis=-1) > 0, bell(0.025) + 1j * bell(0.025), 0)
    return replace(
        plan,
        heading=plan.heading + bell(0.06),
        length=plan.length * np.exp(bell(0.09, SEGMENTS)),
        turn=plan.turn * (1 + bell(0.07, SEGMENTS)) + bell(0.08, SEGMENTS),
        corner=plan.corner * (1 + bell(0.08, SEGMENTS)),
        wobble=bell(0.08, 2) * np.asarray([1, 0.5], np.float32),
        phase=draws.uniform(STROKES, 2),
        shift=shift.astype(np.complex64),
    )


def place(
    paths: np.ndarray, unit: np.ndarray, person: Draws, draws: Draws, *, slant: np.ndarray, noise: float
) -> np.ndarray:
    """Put drawings on the unit square: sheared, stretched, turned, and not quite in the middle.

    Args:
        paths: Of the n drawings, complex64, ``(n, STROKES, POINTS)``.
        unit: What a length of 1 becomes, complex: across and down, ``(n,)``.
        person: Streams of who draws, ``(n,)``: the drawings of one person share a part of the noise.
        draws: Streams of the drawings.
        slant: Shear to the left, ``(n,)``.
        noise: As in `move`.

    Returns:
        Paths that keep ``MARGIN`` off the sides of the square.
    """

    def bell(own: float, shared: float) -> np.ndarray:
        return np.float32(noise) * (np.float32(own) * draws.bell() + np.float32(shared) * person.bell())

    slant = (slant + bell(0.04, 0.06))[:, None, None]
    width, height = (side * np.exp(bell(0.05, 0.05)) for side in (unit.real, unit.imag))
    turn = np.exp(1j * bell(0.04, 0.03))
    across = (paths.real - slant * paths.imag) * width[:, None, None]
    paths = (across + 1j * paths.imag * height[:, None, None]) * turn[:, None, None]
    low, high = box(paths.reshape(len(paths), -1))
    paths = paths - ((low + high) / 2)[:, None, None]
    size = high - low
    fit = np.minimum(1, (1 - 2 * MARGIN) / np.maximum(np.maximum(size.real, size.imag), 1e-6))
    room = (1 - 2 * MARGIN - fit * size.real) / 2, (1 - 2 * MARGIN - fit * size.imag) / 2
    x, y = (np.clip(bell(0.03, 0), -free, free) for free in room)
    placed: np.ndarray = paths * fit[:, None, None] + (0.5 + 0.5j + x + 1j * y)[:, None, None]
    return placed.astype(np.complex64)
