r"""What the support sets of regression tasks tell of them: how far from linear they are.

The targets of a task, less their mean, are predicted from its inputs by ridge regression on
$(1, x)$, and on $(1, x, x^2)$ with the square of each feature; inputs are divided by their largest magnitude.
Each example is predicted from all others, and the sum of its squared errors divided by that of the mean of
the others:

$$\frac{\sum_i \lVert y_i - \hat y_{-i} \rVert^2}{\sum_i \lVert y_i - \bar y_{-i} \rVert^2},$$

one less the predictive $R^2$ (Allen 1974, *The relationship between variable selection and data
augmentation*). It is near 0 where the model fits, and about 1, or above, where it tells nothing. It depends
on the scales of neither inputs nor targets.
"""

from __future__ import annotations

import math

import numpy as np

from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.heads.calibrated import double
from mltk.ops.kernels import kernels_of
from mltk.task_analysis.features import without_scale
from mltk.task_analysis.leave_one_out import missed
from mltk.task_analysis.measures import SUPPORT, Measures
from mltk.tree import Array

RIDGE = 1e-3
"""The regulariser, for inputs whose largest magnitude is 1."""


def regression_measures(episode: Episode) -> Measures:
    """Measure the support sets of regression tasks: see `mltk.task_analysis.regression`.

    Args:
        episode: Tasks of regression; inputs and targets of more axes are flattened.

    Returns:
        ``"shots"``; ``"target_scale"``, the standard deviation of the targets around their mean;
        ``"leave_one_out_linear"`` and ``"leave_one_out_quadratic"``, 0 where all targets are equal.

    Raises:
        SettingError: If the tasks are of classification.

    Examples:
        >>> import mltk
        >>> be = mltk.backend("numpy")
        >>> line = mltk.data.LinearRegression(shots=10, queries=1, features=1, noise=0.1)
        >>> wave = mltk.data.Sinusoid(shots=10, queries=1)
        >>> straight, bent = (
        ...     mltk.task_analysis.regression_measures(tasks.sample(50, 0, be)) for tasks in (line, wave)
        ... )
        >>> name = "leave_one_out_linear"
        >>> bool(straight[name].mean() < 0.5 < bent[name].mean())
        True
    """
    if episode.ways is not None:
        raise SettingError(f"episode has {episode.ways} ways; expected regression (measures is for classes)")
    x, y = (_flat(array) for array in (episode.support_x, episode.support_y))
    xp, examples = kernels_of(x).xp, x.shape[1]
    x = without_scale(x)
    y = y - xp.mean(y, axis=1, keepdims=True)
    largest = xp.max(xp.abs(y), axis=(1, 2), keepdims=True)
    equal = largest <= 1e-12 * xp.max(xp.abs(_flat(episode.support_y)), axis=(1, 2), keepdims=True)
    y = xp.where(equal, 0.0, y / xp.where(equal, 1.0, largest))
    squares = xp.sum(y * y, axis=(1, 2))
    of_mean = squares * (examples / max(examples - 1, 1)) ** 2
    found = {
        "shots": examples * xp.ones_like(squares),
        "target_scale": xp.sqrt(squares / math.prod(y.shape[1:])),
    }
    found["target_scale"] = found["target_scale"] * xp.where(equal, 0.0, largest)[:, 0, 0]
    one = xp.ones_like(x[..., :1])
    for name, inputs in (("linear", [one, x]), ("quadratic", [one, x, x * x])):
        errors = missed(xp.concat(inputs, axis=-1), y, RIDGE)
        share = xp.sum(errors * errors, axis=(1, 2)) / xp.where(of_mean > 0, of_mean, 1.0)
        found[f"leave_one_out_{name}"] = share
    to_numpy = episode.backend.to_numpy
    arrays = {name: np.asarray(to_numpy(values), np.float64) for name, values in found.items()}
    return Measures(arrays, dict.fromkeys(arrays, SUPPORT))


def _flat(array: Array) -> Array:
    """Vectors ``(T, N, d)`` in double precision."""
    x = double(array)
    return kernels_of(x).xp.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))
