"""Strokes: the plan of a character, and the paths that a pen follows to write it.

Points of the plane are complex numbers, x to the right and y down as in images. A stroke is given by the
direction of the pen along it: a heading at the start, then up to three segments that each turn evenly, with a
corner between two of them. So lines, arcs, loops, hooks and zigzags are all the same few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

STROKES = 4
"""Strokes that a character has at most."""

SEGMENTS = 3
"""Segments that a stroke has at most."""

POINTS = 32
"""Points of a stroke's path."""

ATTACHED, BRIDGE, LOOSE = range(3)
"""How a stroke joins the earlier ones: at a point of one, between two points of one, or apart from all."""

GAP = np.complex64(0.14 + 0.14j)
"""Distance between a loose stroke and the bounding box of the strokes before."""

WIDEST = 1.4
"""How much a stroke is stretched at most to bridge two points."""


@dataclass(frozen=True)
class Plan:
    """How n characters are written. Lengths are about in heights of a character, angles in radians.

    Attributes:
        heading: Direction at the start of each stroke, ``(n, STROKES)``.
        length: Of each segment, ``(n, STROKES, SEGMENTS)``; 0 where there is none.
        turn: How far each segment turns, same shape.
        corner: How far the pen turns before each segment at once, same shape.
        rounding: Share of a stroke that a corner takes, ``(n,)``.
        wobble: Amplitudes of a slow and a fast wave in the direction, ``(n, STROKES, 2)``.
        phase: Phases of the two, in turns, same shape.
        join: ``ATTACHED``, ``BRIDGE`` or ``LOOSE``, ``(n, STROKES)``; nothing for the first stroke.
        host: The earlier stroke that each is joined to, ``(n, STROKES)``.
        host_at: Where on the host, 0 its start and 1 its end.
        host_to: Where on the host a bridge ends.
        own_at: Which place of an attached stroke lies there.
        side: Where a loose stroke stands: complex, from the middle of the earlier ones in units of half
            their box.
        shift: By how much each stroke misses its place, complex.
    """

    heading: np.ndarray
    length: np.ndarray
    turn: np.ndarray
    corner: np.ndarray
    rounding: np.ndarray
    wobble: np.ndarray
    phase: np.ndarray
    join: np.ndarray
    host: np.ndarray
    host_at: np.ndarray
    host_to: np.ndarray
    own_at: np.ndarray
    side: np.ndarray
    shift: np.ndarray

    def take(self, characters: np.ndarray) -> Plan:
        """The plans of some of the characters."""
        return Plan(*(getattr(self, field.name)[characters] for field in fields(self)))


def write(plan: Plan) -> np.ndarray:
    """The paths of the pen.

    Returns:
        Points at equal spacing along each stroke, complex64, ``(n, STROKES, POINTS)``. A stroke
        without length is one point, on another stroke.
    """
    length = plan.length.sum(axis=-1, keepdims=True)
    steps = np.exp(1j * _directions(plan)) * (length / (POINTS - 1))
    paths = np.zeros((*steps.shape[:2], POINTS), np.complex64)
    np.cumsum(steps, axis=-1, out=paths[..., 1:])
    low, high = box(paths[:, 0])
    for stroke in range(1, STROKES):
        path = paths[:, stroke]
        join, host = plan.join[:, stroke], plan.host[:, stroke]
        start, end = (_point(paths, host, at[:, stroke]) for at in (plan.host_at, plan.host_to))
        path *= np.where(join == BRIDGE, _stretch(path[:, -1], end - start), 1)[:, None]
        own = _point(paths, stroke, np.where(join == BRIDGE, 0, plan.own_at[:, stroke]))
        own_low, own_high = box(path)
        # Complex numbers here are pairs: x and y are scaled each on its own.
        reach, side = (high - low + own_high - own_low) / 2 + GAP, plan.side[:, stroke]
        place = (low + high - own_low - own_high) / 2 + side.real * reach.real + 1j * side.imag * reach.imag
        move = np.where(join == LOOSE, place, start - own) + plan.shift[:, stroke]
        path += move[:, None]
        low, high = box(np.stack([low, high, own_low + move, own_high + move], axis=-1))
    return paths


def box(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper left and the lower right corner of points along the last axis."""
    x, y = points.real, points.imag
    return x.min(axis=-1) + 1j * y.min(axis=-1), x.max(axis=-1) + 1j * y.max(axis=-1)


def _directions(plan: Plan) -> np.ndarray:
    """The direction of the pen on each of the ``POINTS - 1`` pieces of a path."""
    length = plan.length.sum(axis=-1)
    ends = np.cumsum(plan.length, axis=-1) / np.maximum(length, 1e-6)[..., None]
    along = (np.arange(POINTS - 1, dtype=np.float32) + np.float32(0.5)) / (POINTS - 1)
    directions = np.repeat(plan.heading[..., None], POINTS - 1, axis=-1)
    start = np.zeros_like(ends[..., :1])
    for segment in range(SEGMENTS):
        end = ends[..., segment, None]
        since = along - start
        directions += plan.turn[..., segment, None] * np.clip(since / np.maximum(end - start, 1e-3), 0, 1)
        if segment:
            corner = np.clip(since / plan.rounding[:, None, None] + np.float32(0.5), 0, 1)
            directions += plan.corner[..., segment, None] * corner
        start = end
    for wave in range(2):
        angle = (wave + 1) * along + plan.phase[..., wave, None]
        directions += plan.wobble[..., wave, None] * np.sin(np.float32(2 * np.pi) * angle)
    return directions


def _point(paths: np.ndarray, stroke: int | np.ndarray, at: np.ndarray) -> np.ndarray:
    """One point of one stroke of each character, ``(n,)``."""
    return np.asarray(paths[np.arange(len(paths)), stroke, np.rint(at * (POINTS - 1)).astype(np.intp)])


def _stretch(own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The factor that turns and scales one chord to another, as far as that makes sense."""
    factor = wanted / np.where(np.abs(own) < 0.05, 0.05, own)
    size = np.abs(factor)
    return np.where(size > 0.2, factor * np.minimum(1, WIDEST / np.maximum(size, 0.2)), 1)
