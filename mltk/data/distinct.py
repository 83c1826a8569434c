"""Drawing without replacement, for many rows at once."""

from __future__ import annotations

import numpy as np


def distinct(rng: np.random.Generator, sizes: np.ndarray, count: int) -> np.ndarray:
    r"""Draw different integers in random order, each row of the result from a range of its own.

    Row $r$ holds ``count`` different integers of $0 \ldots n_r - 1$; all such sequences are equally likely.

    Where $n_r$ is large, a row is drawn with replacement, and entries that repeat an earlier one are drawn
    again until there are none. This is exactly uniform: whether an entry is drawn again depends only on
    which entries are equal, so renaming the integers changes no probability, and renamings turn any
    sequence of different integers into any other. If at least half of the range stays free, each round
    settles at least half of the repeated entries on average. In smaller ranges, the integers are put in
    the order of random keys.

    So the work does not depend on $n_r$, and no entry waits for the one before it.

    Args:
        rng: The generator to draw with.
        sizes: The $n_r$, ``(rows,)``, each at least ``count``.
        count: How many of each.

    Returns:
        ``(rows, count)``, int64.
    """
    small = sizes < 2 * count
    if small.all():
        return _by_keys(rng, sizes, count)
    if not small.any():
        return _by_repetition(rng, sizes, count)
    drawn = np.empty((len(sizes), count), np.int64)
    drawn[small] = _by_keys(rng, sizes[small], count)
    drawn[~small] = _by_repetition(rng, sizes[~small], count)
    return drawn


def _by_keys(rng: np.random.Generator, sizes: np.ndarray, count: int) -> np.ndarray:
    """The places of the smallest of ``sizes`` random keys, smallest first."""
    keys = rng.random((len(sizes), sizes.max()))
    keys[np.arange(sizes.max()) >= sizes[:, None]] = np.inf
    return np.asarray(np.argsort(keys, axis=1)[:, :count])


def _by_repetition(rng: np.random.Generator, sizes: np.ndarray, count: int) -> np.ndarray:
    """Entries drawn again until they differ."""
    drawn = rng.integers(sizes[:, None], size=(len(sizes), count))
    rows = np.arange(len(sizes))
    while rows.size:
        # Sorted together with its column, an entry stands after the equal ones of earlier columns.
        ordered = np.sort(drawn[rows] * count + np.arange(count), axis=1)
        repeated = ordered[:, 1:] // count == ordered[:, :-1] // count
        row, place = np.nonzero(repeated)
        columns = ordered[row, place + 1] % count
        drawn[rows[row], columns] = rng.integers(sizes[rows[row]])
        rows = rows[np.unique(row)]
    return drawn
