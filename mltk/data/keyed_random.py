"""Random numbers that depend on a key and nothing else: how many others are drawn makes no difference."""

from __future__ import annotations

from math import prod

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The odd integer nearest to 2⁶⁴ divided by the golden ratio: its multiples spread over all 64 bits."""


def subkeys(keys: np.ndarray, indices: int | np.ndarray) -> np.ndarray:
    """Keys of the members of a family, as from a seed to alphabets, characters and drawings.

    Args:
        keys: Keys of the parents, uint64, with at least one axis.
        indices: Which child of each, integers of at least 0; broadcast against ``keys``.

    Returns:
        Keys, uint64, of the broadcast shape.
    """
    return _mix(keys + (np.atleast_1d(indices).astype(np.uint64) + np.uint64(1)) * GOLDEN)


class Draws:
    """Streams of random numbers, one for each key, read side by side.

    The generator is SplitMix64 (Steele, Lea & Flood 2014, figure 16), started anew at each key: the i-th
    number of a stream is a hash of its key and i.
    """

    def __init__(self, keys: np.ndarray) -> None:
        """Start the streams.

        Args:
            keys: uint64, ``(n,)``.
        """
        self._keys = keys[:, None]
        self._drawn = 0

    def uniform(self, *shape: int) -> np.ndarray:
        """The next numbers, uniform in [0, 1), float32, ``(n, *shape)``."""
        count = prod(shape)
        bits = subkeys(self._keys, np.arange(self._drawn, self._drawn + count))
        self._drawn += count
        # A float32 holds 24 bits: from more, rounding would give 1 now and then.
        uniform: np.ndarray = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        return uniform.reshape(-1, *shape)

    def bell(self, *shape: int) -> np.ndarray:
        """Numbers of mean 0 and variance 1 within [-3, 3]: the sum of three uniform ones, scaled."""
        sums: np.ndarray = self.uniform(*shape, 3).sum(axis=-1)
        return 2 * sums - 3


class SharedDraws:
    """Streams of random numbers that resemble those of a root, more or less."""

    def __init__(self, keys: np.ndarray, roots: np.ndarray, share: float) -> None:
        """Start the streams.

        Args:
            keys: uint64, ``(n,)``.
            roots: Keys of the streams that they resemble, uint64, ``(n,)``.
            share: How much: 0 not at all, 1 entirely.
        """
        self._own, self._root, self._coin = Draws(keys), Draws(roots), Draws(subkeys(keys, 0))
        self._share = np.float32(share)

    def choice(self, *shape: int) -> np.ndarray:
        """Numbers uniform in [0, 1) to choose by, each the root's with probability ``share``."""
        return self.either(self._own.uniform(*shape), self._root.uniform(*shape))

    def either(self, own: np.ndarray, root: np.ndarray) -> np.ndarray:
        """Entries of two arrays ``(n, …)``, each the root's with probability ``share``."""
        return np.where(self._coin.uniform(*own.shape[1:]) < self._share, root, own)

    def amount(self, *shape: int) -> np.ndarray:
        """Numbers in [0, 1), moved from uniform ones towards the root's by ``share`` of the way."""
        own, root = self._own.uniform(*shape), self._root.uniform(*shape)
        return np.asarray(own + self._share * (root - own))


def between(u: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) stretched to a range, float32."""
    return np.asarray((low + (high - low) * u).astype(np.float32))


def pick(u: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Entries of a table, equally likely, by numbers uniform in [0, 1)."""
    return np.asarray(table[(u * len(table)).astype(np.intp)])


def _mix(bits: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: a bijection; an input bit changes about half of the output bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
