r"""What a support set tells of a sinusoid: its exact posterior.

With $\alpha = A \cos b$ and $\beta = A \sin b$ a curve of known frequency is linear, $A \sin(\omega x + b)
= \alpha \sin \omega x + \beta \cos \omega x$, and the uniform priors of $A$ and $b$ have the density $dA \,
db = d\alpha \, d\beta / |A|$ in the plane. So mean and covariance of $(\alpha, \beta)$ given the support
set are all that the best predictions need. By the singular value decomposition $U S V^\top$ of the rows
$(\sin \omega x_i, \cos \omega x_i)$, the likelihood depends on at most two numbers of a task, $U^\top y$.

**With noise** the density of $(A, b)$ is integrated numerically, over $A$ by Gauss–Legendre, on the range
in which a Gaussian, given $b$, matters, and over $b$ by Gauss–Lobatto, on panels that begin where the
amplitude leaves its range too, and are halved until the logarithm of the density varies by less than one
within each; what lies $e^{40}$ below the largest density is left out. Means are right to 1e-6 for one
example and noise down to 1e-4, and to 1e-9 for more.

**Without noise** two different inputs determine the curve. One input leaves a line: turned by $\omega x$,
it is $(g, y)$ with $g = A \cos(\omega x + b)$ unknown, whose density $1 / \sqrt{g^2 + y^2}$ is that of the
limit of small noise, where amplitude and phase are in their ranges. Between the places where one of them
leaves its range all integrals are elementary.
"""

from __future__ import annotations

import math

import numpy as np

from mltk.errors import SettingError

PANELS = 128
"""Panels of the phase to begin with."""

DROP = 40.0
"""What is so far below the largest logarithm of the density is left out."""

SMOOTH = 1.0
"""The logarithm of the density varies by less within a panel."""

POINTS = 10
"""Phases of a panel, its ends among them: what begins or ends within a panel is seen."""

AMPLITUDES = 32
"""Points of the rule over amplitudes."""

TOGETHER = 2048
"""Panels that are evaluated at once."""

Range = tuple[float, float]


def posterior(
    rows: np.ndarray, y: np.ndarray, *, amplitude: Range, phase: Range, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""The posterior mean and covariance of $(\alpha, \beta)$.

    Args:
        rows: $(\sin \omega x, \cos \omega x)$ of the support examples, float64 ``(T, N, 2)``.
        y: Their targets ``(T, N)``.
        amplitude: Range of $A$, uniform.
        phase: Range of $b$, uniform.
        noise: Standard deviation of the noise in ``y``.

    Returns:
        Means ``(T, 2)`` and covariances ``(T, 2, 2)``.

    Raises:
        SettingError: If a range is a single number, or no curve of the family goes through the support set.
    """
    for name, (low, high) in (("amplitude", amplitude), ("phase", phase)):
        if not low < high:
            raise SettingError(f"{name} is {(low, high)}; the posterior is known where low < high")
    u, scales, v = np.linalg.svd(rows, full_matrices=False)
    seen = (u.mT @ y[..., None])[..., 0]
    if noise:
        mean, second = _with_noise(scales[..., None] * v / noise, seen / noise, amplitude, phase)
    else:
        mean, second = _without_noise(scales, v, seen, amplitude, phase)
    return mean, second - mean[:, :, None] * mean[:, None, :]


def _without_noise(
    scales: np.ndarray, v: np.ndarray, seen: np.ndarray, amplitude: Range, phase: Range
) -> tuple[np.ndarray, np.ndarray]:
    """First and second moments, ``(T, 2)`` and ``(T, 2, 2)``."""
    known = scales[:, -1] > 1e-9 * scales[:, 0] if scales.shape[1] > 1 else np.zeros(len(scales), bool)
    mean, second = np.zeros((len(seen), 2)), np.zeros((len(seen), 2, 2))
    mean[known] = ((seen[known] / scales[known])[:, None, :] @ v[known])[:, 0]
    second[known] = mean[known][:, :, None] * mean[known][:, None, :]
    line = ~known
    mean[line], second[line] = _on_a_line(v[line, 0], seen[line, 0] / scales[line, 0], amplitude, phase)
    return mean, second


def _on_a_line(
    direction: np.ndarray, y: np.ndarray, amplitude: Range, phase: Range
) -> tuple[np.ndarray, np.ndarray]:
    """First and second moments on the line ``⟨direction, (α, β)⟩ = y``."""
    along = np.stack([direction[:, 1], -direction[:, 0]], axis=1)
    turn = np.arctan2(direction[:, 0], direction[:, 1])
    size = np.maximum(np.abs(y), 1e-300)[:, None]
    ends = np.sqrt(np.maximum(np.asarray(amplitude) ** 2 - y[:, None] ** 2, 0.0))
    with np.errstate(divide="ignore", over="ignore"):
        crossed = y[:, None] / np.tan(turn[:, None] + np.asarray(phase))
    furthest = ends.max(axis=1, keepdims=True)
    g = np.sort(np.clip(np.concatenate([ends, -ends, crossed], axis=1), -furthest, furthest), axis=1)
    middle = (g[:, 1:] + g[:, :-1]) / 2
    length, angle = np.hypot(middle, y[:, None]), np.arctan2(y[:, None], middle) - turn[:, None]
    times = np.zeros(middle.shape)
    for sign, offset in ((1, 0.0), (-1, math.pi)):  # a negative amplitude is half a turn away
        turns = [(bound - angle - offset) / (2 * math.pi) for bound in phase]
        allowed = (amplitude[0] <= sign * length) & (sign * length <= amplitude[1])
        times += allowed * (np.floor(turns[1]) - np.ceil(turns[0]) + 1)
    root, area = np.hypot(g, size), np.arcsinh(g / size)
    moments = [
        np.sum(times * np.diff(integral, axis=1), axis=1)
        for integral in (area, root, (g * root - size**2 * area) / 2)
    ]
    if not (moments[0] > 0).all():
        raise SettingError(
            "support_y is not of this family: without noise no amplitude and phase in their ranges give it"
        )
    first, second = moments[1] / moments[0], moments[2] / moments[0]
    fixed = y[:, None] * direction
    mixed = fixed[:, :, None] * along[:, None, :]
    outer = [each[:, :, None] * each[:, None, :] for each in (fixed, along)]
    return (
        fixed + first[:, None] * along,
        outer[0] + first[:, None, None] * (mixed + mixed.mT) + second[:, None, None] * outer[1],
    )


def _with_noise(
    rows: np.ndarray, seen: np.ndarray, amplitude: Range, phase: Range
) -> tuple[np.ndarray, np.ndarray]:
    """First and second moments by quadrature, in units of the noise."""
    tasks = len(seen)
    largest = np.full(tasks, -np.inf)
    edges = _edges(rows[:, 0], seen[:, 0], amplitude, phase)
    task = np.repeat(np.arange(tasks), edges.shape[1] - 1)
    left, width = edges[:, :-1].ravel(), np.diff(edges, axis=1).ravel()
    finished = []
    while task.size:
        parts = [
            _panels(rows[task[part]], seen[task[part]], left[part], width[part], amplitude)
            for part in (slice(start, start + TOGETHER) for start in range(0, task.size, TOGETHER))
        ]
        b, log_density, first, second = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        top, bottom = log_density.max(axis=1), log_density.min(axis=1)
        np.maximum.at(largest, task, top)
        matters = 2 * top - bottom > largest[task] - DROP
        halved = matters & (top - bottom > SMOOTH) & (width > 1e-15 * (phase[1] - phase[0]))
        done = matters & ~halved
        shares = width[:, None] * _lobatto(POINTS)[1]
        finished.append((task[done], b[done], shares[done], log_density[done], first[done], second[done]))
        task, width = np.repeat(task[halved], 2), np.repeat(width[halved] / 2, 2)
        left = np.repeat(left[halved], 2) + width * np.tile(np.arange(2), halved.sum())
    task, b, shares, log_density, first, second = (
        np.concatenate(arrays) for arrays in zip(*finished, strict=True)
    )
    density = shares * np.exp(log_density - largest[task][:, None])
    cosine, sine = np.cos(b), np.sin(b)
    sums = np.zeros((tasks, 6))
    terms = [np.ones_like(b), first * cosine, first * sine]
    terms += [second * cosine**2, second * cosine * sine, second * sine**2]
    np.add.at(sums, task, np.stack([np.sum(density * term, axis=1) for term in terms], axis=1))
    moments = sums[:, 1:] / sums[:, :1]
    return moments[:, :2], moments[:, [2, 3, 3, 4]].reshape(-1, 2, 2)


def _edges(row: np.ndarray, y: np.ndarray, amplitude: Range, phase: Range) -> np.ndarray:
    """Where panels begin: equally far, and outside and inside of where the amplitude leaves its range.

    That is the best amplitude for the first row, eight standard deviations of the noise before and after. All
    that is likely may lie between the two.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        least = (y[:, None] + [-8, 8]) / np.hypot(*row.T)[:, None]
        sines = np.concatenate([least / bound for bound in amplitude], axis=1)
    angles = np.arcsin(np.clip(np.nan_to_num(sines), -1, 1))
    b = np.concatenate([angles, math.pi - angles], axis=1) - np.arctan2(*row.T)[:, None]
    turns = 2 * math.pi * np.arange(1 + (phase[1] - phase[0]) // (2 * math.pi))
    b = phase[0] + ((b - phase[0]) % (2 * math.pi))[:, :, None] + turns
    regular = np.broadcast_to(np.linspace(*phase, PANELS + 1), (len(y), PANELS + 1))
    edges = np.concatenate([regular, np.minimum(b.reshape(len(y), -1), phase[1])], axis=1)
    return np.sort(edges, axis=1)


def _panels(
    rows: np.ndarray, seen: np.ndarray, left: np.ndarray, width: np.ndarray, amplitude: Range
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Phases ``(P, n)``, the logarithm of their density up to a constant, and moments of $A$ given each."""
    nodes, _ = _lobatto(POINTS)
    b = left[:, None] + width[:, None] * (nodes + 1) / 2
    curve = np.stack([np.cos(b), np.sin(b)], axis=-1) @ rows.mT
    target = seen[:, None, :]
    precision = np.maximum(np.sum(curve**2, axis=-1), 1e-200)
    best = np.sum(curve * target, axis=-1) / precision
    mode = np.clip(best, *amplitude)
    reach = np.sqrt((mode - best) ** 2 + 2 * DROP / precision)
    low, high = np.maximum(amplitude[0], best - reach), np.minimum(amplitude[1], best + reach)
    inner, shares = np.polynomial.legendre.leggauss(AMPLITUDES)
    a = low[..., None] + (high - low)[..., None] * (inner + 1) / 2
    at_mode = -np.sum((mode[..., None] * curve - target) ** 2, axis=-1) / 2
    # The exponent from its mode on, so that nothing cancels where the noise is small.
    from_mode = (a - mode[..., None]) * (a + (mode - 2 * best)[..., None])
    density = np.exp(-precision[..., None] / 2 * from_mode) * shares
    total = np.sum(density, axis=-1)
    log_density = at_mode + np.log(total * np.maximum(high - low, 1e-300))
    return (
        b,
        log_density,
        np.sum(density * a, axis=-1) / total,
        np.sum(density * a * a, axis=-1) / total,
    )


def _lobatto(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Gauss–Lobatto rule on [−1, 1] (Abramowitz & Stegun 1964, 25.4.32)."""
    basis = np.polynomial.legendre.Legendre.basis(points - 1)
    nodes = np.concatenate([[-1.0], np.sort(basis.deriv().roots().real), [1.0]])
    return nodes, 2 / (points * (points - 1) * basis(nodes) ** 2)
