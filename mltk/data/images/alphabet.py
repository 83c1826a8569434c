"""Invented alphabets: each has a style and a few parts, of which its characters are put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk.data.images.strokes import ATTACHED, BRIDGE, LOOSE, SEGMENTS, STROKES, Plan, box, write
from mltk.data.keyed_random import Draws, SharedDraws, between, pick, subkeys

PARTS = 6
"""Kinds of strokes of an alphabet."""

ROOTS = 4
"""Families of characters of an alphabet."""

CANDIDATES = 8
"""Plans of which the most legible becomes a character."""

HEADINGS = np.deg2rad(np.asarray([90, 90, 90, 90, 0, 0, 0, 180, 120, 60, -45], np.float32))
"""Directions in which strokes start: mostly down, often to the right."""

CORNERS = np.deg2rad(np.asarray([70, 90, 90, 90, 115, 135], np.float32))
HOST_PLACES = np.asarray([0, 0, 0.3, 0.5, 0.7, 1, 1], np.float32)
BRIDGE_SPANS = np.asarray([0.45, 0.6, 1, 1], np.float32)
OWN_PLACES = np.asarray([0, 0, 0, 0.5, 0.5, 1], np.float32)
SIDES = np.asarray([-1j, -1j, 1j, 1j, 1, 1, -1, 1 - 1j, 1 + 1j, 0], np.complex64)
"""Where a loose stroke stands: above, below, to the right, to the left, at a corner or inside."""

DOT = np.asarray([0.06, 0, 0], np.float32)
"""Lengths of the segments of a dot."""


@dataclass(frozen=True)
class Style:
    """What the characters of each of A alphabets have in common.

    Attributes:
        heading, length, turn, corner: Of its parts, as in `Plan`: ``(A, PARTS)`` and
            ``(A, PARTS, SEGMENTS)``.
        rounding: Share of a stroke that a corner takes, ``(A,)``, as all below.
        ink: Length of the strokes of a character at which no more are added.
        strokes, dots, bridges, loose: Probabilities of one more stroke, and of a stroke being a dot, a
            bridge, or apart from the others.
        slant: Shear to the left.
        size: Larger side of a character's box, as a share of the image.
        aspect: By how much characters are wide rather than high.
        pen: Radius of the pen in pixels of an image of 28.
    """

    heading: np.ndarray
    length: np.ndarray
    turn: np.ndarray
    corner: np.ndarray
    rounding: np.ndarray
    ink: np.ndarray
    strokes: np.ndarray
    dots: np.ndarray
    bridges: np.ndarray
    loose: np.ndarray
    slant: np.ndarray
    size: np.ndarray
    aspect: np.ndarray
    pen: np.ndarray


def styles(keys: np.ndarray) -> Style:
    """Invent the styles of alphabets, from runes to round hands, by their keys ``(A,)``."""
    draws = Draws(keys)
    each = (PARTS, SEGMENTS)
    angular, rich = draws.uniform(1, 1), draws.uniform(1)
    straight = draws.uniform(*each) < angular
    side = np.where(draws.uniform(*each) < between(draws.uniform(1, 1), 0.15, 0.85), -1, 1)
    arc = np.pi * between(draws.uniform(1, 1), 0.6, 1.15) * between(draws.uniform(*each), 0.6, 1.2)
    loop = ~straight & (draws.uniform(*each) < between(draws.uniform(1, 1), -0.1, 0.25))
    turn = np.where(straight, 0.08 * draws.bell(*each), side * np.where(loop, 1.97 * np.pi, arc))
    length = between(draws.uniform(*each), 0.35, 1.0) * np.where(straight, 1, 1.2)
    length = np.where(loop, 1.1 + 0.4 * length, length)
    segments = 1 + (draws.uniform(PARTS) < between(rich, 0.2, 0.8))
    segments += draws.uniform(PARTS) < between(rich, 0.0, 0.5)
    corner = np.where(draws.uniform(*each) < 0.5, -1, 1) * pick(draws.uniform(*each), CORNERS)
    return Style(
        heading=pick(draws.uniform(PARTS), HEADINGS) + 0.07 * draws.bell(PARTS),
        length=np.where(np.arange(SEGMENTS) < segments[..., None], length, 0).astype(np.float32),
        turn=turn.astype(np.float32),
        corner=np.where(draws.uniform(*each) < between(angular, 0.3, 1.0), corner, 0).astype(np.float32),
        rounding=between(draws.uniform(), 0.02, 0.15),
        ink=between(draws.uniform(), 1.6, 3.0),
        strokes=between(draws.uniform(), 0.4, 0.9),
        dots=between(draws.uniform(), -0.1, 0.25),
        bridges=between(draws.uniform(), 0.1, 0.5),
        loose=between(draws.uniform(), -0.05, 0.25),
        slant=0.08 * draws.bell(),
        size=between(draws.uniform(), 0.54, 0.74),
        aspect=np.exp(0.12 * draws.bell()),
        pen=between(draws.uniform(), 0.62, 0.85),
    )


def characters(
    style: Style, alphabet: np.ndarray, number: np.ndarray, *, keys: np.ndarray, share: float
) -> Plan:
    """Invent characters.

    Of several plans for each the most legible is taken, as a script that is in use would have it; the more
    is shared, the oftener the one that corresponds to the most legible plan of the root.

    Args:
        style: Of the alphabets.
        alphabet: The alphabet of each character, ``(n,)``.
        number: Which of its characters it is, ``(n,)``.
        keys: Of the alphabets and the characters, uint64, ``(n, 2)``.
        share: How much of its plan a character has from its root, in [0, 1].
    """
    own = keys[:, 1]
    root = pick(Draws(subkeys(own, CANDIDATES + 1)).uniform(), np.arange(ROOTS))
    roots = subkeys(subkeys(keys[:, 0], 0), root)
    candidate = np.arange(1, CANDIDATES + 1)
    own_keys, root_keys = (subkeys(some[:, None], candidate).reshape(-1) for some in (own, roots))
    group, place, root = (np.repeat(array, CANDIDATES) for array in (alphabet, number, root))
    plans = _sketch(style, group, place, root, SharedDraws(own_keys, root_keys, share))
    root_plans = _sketch(style, group, root, root, SharedDraws(root_keys, root_keys, 0))
    own_best, root_best = (
        _legibility(some).reshape(-1, CANDIDATES).argmax(axis=1) for some in (plans, root_plans)
    )
    best = SharedDraws(own, roots, share).either(own_best, root_best)
    return plans.take(np.arange(len(own)) * CANDIDATES + best)


def _sketch(
    style: Style, alphabet: np.ndarray, number: np.ndarray, root: np.ndarray, draws: SharedDraws
) -> Plan:
    """One plan for each character."""
    alphabet = alphabet[:, None]
    part = (PARTS * draws.choice(STROKES) ** 1.3).astype(np.intp)
    part[:, :2] = draws.either(_leading_parts(number), _leading_parts(root))
    scale = between(draws.amount(STROKES), 0.5, 1.0)
    scale[:, 0] = between(scale[:, 0], 0.8, 1.1)
    stretch = scale[..., None] * between(draws.amount(STROKES, SEGMENTS), 0.75, 1.25)
    length = style.length[alphabet, part] * stretch
    mirrored = draws.choice(STROKES) < 0.25
    heading = style.heading[alphabet, part] + between(draws.amount(STROKES), -0.1, 0.1)
    heading = np.where(mirrored, np.float32(np.pi) - heading, heading)
    hand = np.where(mirrored, np.float32(-1), np.float32(1))[..., None]
    turn, corner = hand * style.turn[alphabet, part], hand * style.corner[alphabet, part]

    dot = draws.choice(STROKES) < style.dots[alphabet]
    # A later character has a leading part that an earlier one has; it takes a second one to tell them apart.
    later = number >= PARTS
    dot[:, 0] = False
    dot[later, 1] = False
    length = np.where(dot[..., None], DOT, length)
    ink = length.sum(axis=-1)
    before = np.cumsum(ink, axis=1) - ink
    wanted = (draws.choice(STROKES) < style.strokes[alphabet]) | (before < 1.1)
    wanted &= (before + ink / 2 < style.ink[alphabet]) | dot
    wanted[:, 0] = True
    wanted[later, 1] = True
    drawn = np.cumprod(wanted, axis=1).astype(bool)

    # A straight bridge would only retrace a straight host, and a loop has nearly no chord to stretch.
    bent = np.abs(turn[..., 0]) + np.where(length[..., 1] > 0, np.abs(corner[..., 1]), 0) > 0.8
    bent &= (np.abs(turn) < 4).all(axis=-1)
    join = np.where(bent & (draws.choice(STROKES) < style.bridges[alphabet]), BRIDGE, ATTACHED)
    join = np.where(dot | (draws.choice(STROKES) < style.loose[alphabet]), LOOSE, join)
    host_at = pick(draws.choice(STROKES), HOST_PLACES) + between(draws.amount(STROKES), -0.07, 0.07)
    host_at = np.clip(host_at, 0, 1)
    span = pick(draws.choice(STROKES), BRIDGE_SPANS)
    return Plan(
        heading=heading,
        length=np.where(drawn[..., None], length, 0),
        turn=turn,
        corner=corner,
        rounding=style.rounding[alphabet[:, 0]],
        wobble=np.zeros((len(alphabet), STROKES, 2), np.float32),
        phase=np.zeros((len(alphabet), STROKES, 2), np.float32),
        join=np.where(drawn, join, ATTACHED),
        host=(np.arange(STROKES) * draws.choice(STROKES) ** 1.5).astype(np.intp),
        host_at=host_at,
        host_to=np.where(host_at < 0.5, np.minimum(host_at + span, 1), np.maximum(host_at - span, 0)),
        own_at=pick(draws.choice(STROKES), OWN_PLACES),
        side=pick(draws.choice(STROKES), SIDES),
        shift=np.zeros((len(alphabet), STROKES), np.complex64),
    )


def _leading_parts(number: np.ndarray) -> np.ndarray:
    """The parts of the first two strokes, ``(n, 2)``: a new pair for each character, up to the 36th."""
    return np.stack([number % PARTS, (number + number // PARTS + 1) % PARTS], axis=1)


def _legibility(plan: Plan) -> np.ndarray:
    """How clear a character looks, ``(n,)``: no stroke retraces another, and it is neither flat nor bare."""
    strokes = write(plan)
    paths = strokes.reshape(len(strokes), -1)
    low, high = box(paths)
    size = high - low
    larger = np.maximum(size.real, size.imag)
    # On a grid of 8 by 8 cells, ink that is not retraced enters a new cell after each eighth of its way.
    places = (paths - low[:, None]) * (8 / larger[:, None])
    cells = np.sort(100 * np.floor(places.real) + np.floor(places.imag), axis=-1)
    visited = 1 + (np.diff(cells, axis=-1) > 0).sum(axis=-1)
    ink = np.abs(np.diff(strokes, axis=-1)).sum(axis=(-2, -1)) / larger
    fresh = np.minimum(visited / (8 * ink), 1)
    wide = size.real / np.maximum(size.imag, 0.01 * larger)
    score: np.ndarray = 2.2 * fresh + np.minimum(np.minimum(wide, 1 / wide), 0.6)
    score += 0.3 * np.minimum(ink, 3) - 0.3 * np.clip(wide - 1, 0, 10)
    return score
